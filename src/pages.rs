//! The pages of the site: embedded in the binary, or read from a directory on every request as the Book does.
//!
//! Which file holds which page is decided here and nowhere else. In particular, nothing of a request ever becomes a
//! file name (RFC 9110 section 17.3).

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

/// The pages there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// The page that says "Hello!".
    Hello,
    /// The page that says there is no such page.
    NotFound,
}

impl Page {
    fn file_name(self) -> &'static str {
        match self {
            Self::Hello => "hello.html",
            Self::NotFound => "404.html",
        }
    }

    fn embedded(self) -> &'static [u8] {
        match self {
            Self::Hello => include_bytes!("../assets/hello.html"),
            Self::NotFound => include_bytes!("../assets/404.html"),
        }
    }
}

/// Where pages come from.
#[derive(Clone, Debug, Default)]
pub enum Pages {
    /// The copies made when the binary was built.
    #[default]
    Embedded,
    /// The files of this directory, read anew each time.
    Directory(PathBuf),
}

impl Pages {
    /// Pages from a directory that holds `hello.html` and `404.html`.
    ///
    /// # Errors
    ///
    /// If one of the two cannot be read now. The error names the file.
    pub fn from_directory(directory: &Path) -> io::Result<Self> {
        let pages = Self::Directory(directory.to_owned());
        for page in [Page::Hello, Page::NotFound] {
            pages.read(page)?;
        }
        Ok(pages)
    }

    /// The bytes of a page.
    ///
    /// # Errors
    ///
    /// If the page is on disk and cannot be read. The error names the file.
    pub fn read(&self, page: Page) -> io::Result<Cow<'static, [u8]>> {
        match self {
            Self::Embedded => Ok(Cow::Borrowed(page.embedded())),
            Self::Directory(directory) => {
                let file = directory.join(page.file_name());
                let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", file.display()));
                std::fs::read(&file).map(Cow::Owned).map_err(named)
            }
        }
    }
}
