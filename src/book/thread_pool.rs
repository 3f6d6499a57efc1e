//! The thread pool of the Book's final chapter (chapter 21, listings 21-12 to 21-25).
//!
//! A fixed number of [`Worker`]s share the receiving end of one channel behind a mutex; a [`Job`] is a closure. Dropping
//! the pool closes the channel, and each worker leaves when it is empty. Names and structure are the Book's. Two things
//! are added, both of which it mentions and leaves to the reader: [`ThreadPool::build`] reports what
//! [`ThreadPool::new`] panics about, and a job that panics costs its worker nothing.

use std::error::Error;
use std::fmt;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

/// What a worker executes: a closure that owns everything it needs, such as a connection.
type Job = Box<dyn FnOnce() + Send + 'static>;

/// A fixed number of threads that execute closures.
///
/// ```
/// use std::sync::mpsc;
/// use hello::book::ThreadPool;
///
/// let pool = ThreadPool::new(4);
/// let (sender, receiver) = mpsc::channel();
/// for number in 0..8 {
///     let sender = sender.clone();
///     pool.execute(move || sender.send(number).unwrap());
/// }
/// drop(pool); // waits for all eight
/// drop(sender);
/// assert_eq!(receiver.iter().sum::<i32>(), 28);
/// ```
#[derive(Debug)]
pub struct ThreadPool {
    workers: Vec<Worker>,
    /// `None` only while the pool is being dropped.
    sender: Option<mpsc::Sender<Job>>,
}

/// Why there is no pool.
#[derive(Debug)]
pub enum PoolCreationError {
    /// A pool of no threads would never execute anything.
    ZeroThreads,
    /// The system refused to start a thread.
    Spawn(io::Error),
}

impl fmt::Display for PoolCreationError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ZeroThreads => formatter.write_str("a thread pool needs at least one thread"),
            Self::Spawn(error) => write!(formatter, "cannot start a thread: {error}"),
        }
    }
}

impl Error for PoolCreationError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::ZeroThreads => None,
            Self::Spawn(error) => Some(error),
        }
    }
}

impl ThreadPool {
    /// Creates a pool of `size` threads.
    ///
    /// # Panics
    ///
    /// If `size` is zero, or the system refuses to start a thread.
    #[must_use]
    pub fn new(size: usize) -> Self {
        match Self::build(size) {
            Ok(pool) => pool,
            Err(error) => panic!("{error}"),
        }
    }

    /// Creates a pool of `size` threads.
    ///
    /// # Errors
    ///
    /// If `size` is zero, or the system refuses to start a thread.
    pub fn build(size: usize) -> Result<Self, PoolCreationError> {
        if size == 0 {
            return Err(PoolCreationError::ZeroThreads);
        }
        let (sender, receiver) = mpsc::channel();
        let receiver = Arc::new(Mutex::new(receiver));
        let workers = (0..size)
            .map(|id| Worker::new(id, Arc::clone(&receiver)))
            .collect::<io::Result<_>>()
            .map_err(PoolCreationError::Spawn)?;
        Ok(Self { workers, sender: Some(sender) })
    }

    /// Has one of the threads execute `f`, as soon as one is free.
    pub fn execute<F>(&self, f: F)
    where
        F: FnOnce() + Send + 'static,
    {
        if let Some(sender) = &self.sender {
            // The receiver lives as long as a worker does, and workers outlive the sender.
            let _ = sender.send(Box::new(f));
        }
    }
}

impl Drop for ThreadPool {
    /// Waits until everything handed to the pool has been executed.
    fn drop(&mut self) {
        drop(self.sender.take());
        for worker in self.workers.drain(..) {
            log::info!("Shutting down worker {}", worker.id);
            // A worker catches the panics of its jobs, so there is nothing to learn from how it ended.
            let _ = worker.thread.join();
        }
    }
}

/// A thread of the pool.
#[derive(Debug)]
struct Worker {
    id: usize,
    thread: thread::JoinHandle<()>,
}

impl Worker {
    fn new(id: usize, receiver: Arc<Mutex<mpsc::Receiver<Job>>>) -> io::Result<Self> {
        let thread = thread::Builder::new().name(format!("worker-{id}")).spawn(move || {
            loop {
                // The lock is held while waiting, and released at the end of this statement: before the job is
                // executed. A `while let` would hold it until after (Book listing 21-21).
                let message = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
                match message {
                    Ok(job) => {
                        log::info!("Worker {id} got a job; executing.");
                        // The hook has reported the panic; the worker goes on.
                        let _ = panic::catch_unwind(AssertUnwindSafe(job));
                    }
                    Err(mpsc::RecvError) => {
                        log::info!("Worker {id} disconnected; shutting down.");
                        break;
                    }
                }
            }
        })?;
        Ok(Self { id, thread })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    #[should_panic(expected = "at least one thread")]
    fn new_panics_on_zero() {
        let _ = ThreadPool::new(0);
    }

    #[test]
    fn build_reports_zero() {
        assert!(matches!(ThreadPool::build(0), Err(PoolCreationError::ZeroThreads)));
    }

    #[test]
    fn dropping_the_pool_waits_for_every_job_even_after_panics() {
        let done = Arc::new(AtomicUsize::new(0));
        let pool = ThreadPool::new(2);
        for number in 0..100 {
            let done = Arc::clone(&done);
            pool.execute(move || {
                done.fetch_add(1, Ordering::SeqCst);
                // resume_unwind panics without printing a report that would clutter the test's output.
                if number % 3 == 0 {
                    panic::resume_unwind(Box::new("a job may panic"));
                }
            });
        }
        drop(pool);
        assert_eq!(done.load(Ordering::SeqCst), 100);
    }

    #[test]
    fn jobs_run_on_different_threads_at_the_same_time() {
        let pool = ThreadPool::new(2);
        let (to_left, left) = mpsc::channel();
        let (to_right, right) = mpsc::channel();
        // Each job waits for the other, so neither could finish if they ran one after the other.
        pool.execute(move || {
            to_right.send(()).unwrap();
            left.recv().unwrap();
        });
        pool.execute(move || {
            to_left.send(()).unwrap();
            right.recv().unwrap();
        });
        drop(pool);
    }
}
