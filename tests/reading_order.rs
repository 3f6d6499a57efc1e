//! The source reads from the top: a module uses only what stands above it.
//!
//! The order is the one of the `mod` lines in `src/lib.rs`, and within a module that of its own `mod` lines. A child
//! never uses its parent, and the two engines do not know each other.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The library's modules in reading order, such as `http::parse`, with their files. Children come before their parent,
/// which puts them together.
fn modules(file: &Path, prefix: &str, found: &mut Vec<(String, PathBuf)>) {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let directory = if prefix.is_empty() { PathBuf::from("src") } else { file.with_extension("") };
    for line in code(&text) {
        let declared = line.strip_prefix("pub mod ").or_else(|| line.strip_prefix("mod "));
        let Some(name) = declared.and_then(|rest| rest.strip_suffix(';')) else { continue };
        let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}::{name}") };
        let file = directory.join(format!("{name}.rs"));
        modules(&file, &path, found);
        found.push((path, file));
    }
}

/// The lines of a source file that are neither comments nor tests.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let tests = ["#[cfg(test)]", "#[cfg(all(test"].into_iter().filter_map(|mark| text.find(mark)).min();
    let without_tests = &text[..tests.unwrap_or(text.len())];
    without_tests.lines().filter(|line| !line.trim_start().starts_with("//"))
}

/// The paths of the library that a source line mentions, such as `http::parse` in `use crate::http::parse::parse;` and
/// in `super::parse::parse` if the file is in `http`.
fn mentioned(line: &str, module: &str) -> Vec<String> {
    let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
    let mut paths = Vec::new();
    for (root, base) in [("crate::", ""), ("super::", parent), ("self::", module)] {
        for (at, _) in line.match_indices(root) {
            let rest = &line[at + root.len()..];
            let rest: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_' || *c == ':').collect();
            paths.push(if base.is_empty() { rest } else { format!("{base}::{rest}") });
        }
    }
    paths
}

#[test]
fn a_module_uses_only_modules_above_it() {
    let mut found = Vec::new();
    modules(Path::new("src/lib.rs"), "", &mut found);
    let rank: BTreeMap<&str, usize> = found.iter().enumerate().map(|(rank, (path, _))| (path.as_str(), rank)).collect();
    assert!(rank.len() > 15, "the modules were not found: {rank:?}");

    let mut uses = 0;
    for (module, file) in &found {
        let text = fs::read_to_string(file).expect("it was read before");
        for line in code(&text) {
            for path in mentioned(line, module) {
                // The longest known module that the path begins with.
                let known = |length| path.split("::").take(length).collect::<Vec<_>>().join("::");
                let target =
                    (1..=path.split("::").count()).rev().map(known).find(|path| rank.contains_key(path.as_str()));
                let target = target.unwrap_or_else(|| panic!("{}: what is {path}?", file.display()));
                uses += 1;
                assert!(
                    rank[target.as_str()] < rank[module.as_str()] || target == *module,
                    "{module} uses {target}, which comes after it: {line}"
                );
                let engines = ["event_loop", "book"];
                let engine_of = |path: &str| engines.iter().find(|engine| path.starts_with(**engine)).copied();
                let (from, to) = (engine_of(module), engine_of(&target));
                assert!(to.is_none() || from.is_none() || from == to, "{module} uses {target}: {line}");
            }
        }
    }
    assert!(uses > 50, "the uses were not found: {uses}");
}

/// The house rules that can be told from the text alone.
#[test]
fn each_kind_of_code_lives_in_its_room() {
    let mut found = Vec::new();
    modules(Path::new("src/lib.rs"), "", &mut found);
    let rooms: [(&[&str], &[&str]); 5] = [
        (&["\"/sleep\""], &["site"]),
        (&[".register("], &["event_loop"]),
        (&[".lock()"], &["event_loop::workers", "event_loop::completions", "book::thread_pool"]),
        (&[".respond("], &["event_loop::workers", "book"]),
        (&["httparse::"], &["http::parse"]),
    ];
    for (words, allowed) in rooms {
        for word in words {
            let mut seen = 0;
            for (module, file) in &found {
                let text = fs::read_to_string(file).expect("it was read before");
                let count = code(&text).filter(|line| line.contains(word)).count();
                assert!(count == 0 || allowed.contains(&module.as_str()), "{word} does not belong in {module}");
                seen += count;
            }
            assert!(seen > 0, "{word} is nowhere any more; the rule needs another word");
        }
    }
}
