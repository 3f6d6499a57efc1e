//! The hand-over, checked in every order in which its threads can run.
//!
//! `RUSTFLAGS='--cfg loom' cargo test --release --lib model --target-dir target/loom` runs the real [`Completions`] and the
//! real [`Workers`] on loom's locks and threads, which try all interleavings up to three preemptions. The poll thread and
//! its poller are played by the test: it sleeps only when [`Completions::may_sleep`] lets it, and then until the bell rings,
//! for ever if need be. No time passes here, so no timer can cover up a lost wake-up: it would be a deadlock, and loom
//! would say so.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::completions::{Bell, Completions};
use super::job::{Job, Jobs, Rules};
use super::sync::{Condvar, Mutex};
use super::workers::{Common, LaneConfig, Workers};
use crate::http::{Request, Response, Status};
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::service::Service;

/// An eventfd and an epoll, as far as they matter: a ring is kept until somebody wakes up from it.
#[derive(Debug, Default)]
struct Poller {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Poller {
    fn sleep(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.changed.wait(rung).unwrap();
        }
        *rung = false;
    }
}

impl Bell for Arc<Poller> {
    fn ring(&self) -> std::io::Result<()> {
        *self.rung.lock().unwrap() = true;
        self.changed.notify_one();
        Ok(())
    }
}

/// Everything the poll thread has to do with the hand-over.
struct PollThread {
    poller: Arc<Poller>,
    completions: Arc<Completions>,
    workers: Workers,
    service: Arc<dyn Service>,
    limits: Limits,
}

impl PollThread {
    fn new(threads_min: usize, threads_max: usize, patience: Duration) -> Self {
        let service: Arc<dyn Service> = Arc::new(|_: &Request<'_>| Response::empty(Status::OK));
        let poller = Arc::new(Poller::default());
        let completions = Arc::new(Completions::new(Arc::clone(&poller)));
        let common = Common {
            service: Arc::clone(&service),
            completions: Arc::clone(&completions),
            metrics: Arc::new(Metrics::default()),
            limits: Limits::default(),
            draining: AtomicBool::new(false),
        };
        // What depends on how long something takes is either always or never.
        let ring_put_off = patience;
        let config =
            LaneConfig { name: "model", threads_min, threads_max, queue_max: usize::MAX, patience, ring_put_off };
        let workers = Workers::start(config, Arc::new(common)).unwrap();
        Self { poller, completions, workers, service, limits: Limits::default() }
    }

    fn submit(&self, count: usize) {
        let rules = Rules { limits: &self.limits, service: &*self.service, requests_max: usize::MAX };
        let mut jobs: Jobs = (0..count).map(|_| Box::<Job>::default()).collect();
        for job in &mut jobs {
            job.receive(b"GET / HTTP/1.0\r\n\r\n", &rules);
        }
        self.workers.submit(&mut jobs, Instant::now());
        assert!(jobs.is_empty());
    }

    /// Turns of the loop until as many jobs have come back.
    fn collect(&self, count: usize) {
        let mut taken = Jobs::new();
        let mut back = 0;
        while back < count {
            if self.completions.may_sleep() {
                self.poller.sleep();
            }
            self.completions.take(&mut taken);
            for job in taken.drain(..) {
                assert!(job.output.starts_with(b"HTTP/1.1 200 OK"), "each job comes back answered");
                back += 1;
            }
        }
        assert_eq!(back, count, "each job comes back once");
    }

    fn stop(self) {
        assert!(self.workers.stop(Instant::now() + Duration::from_secs(3600)));
    }
}

fn check(run: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(run);
}

/// The ring that a worker puts off until its queue is empty.
#[test]
fn a_batch_comes_back_although_it_is_rung_for_only_once() {
    check(|| {
        let poll = PollThread::new(1, 1, Duration::MAX);
        poll.submit(2);
        poll.collect(2);
        poll.stop();
    });
}

/// A worker on its way to sleep while the next job is submitted.
#[test]
fn a_job_submitted_while_the_worker_falls_asleep_is_not_forgotten() {
    check(|| {
        let poll = PollThread::new(1, 1, Duration::MAX);
        poll.submit(1);
        poll.collect(1);
        poll.submit(1);
        poll.collect(1);
        poll.stop();
    });
}

/// Two workers that push, and ring, at the same time.
#[test]
fn two_workers_lose_nothing_between_them() {
    check(|| {
        let poll = PollThread::new(2, 2, Duration::ZERO);
        poll.submit(2);
        poll.collect(2);
        poll.stop();
    });
}

/// The slow lane: every job that finds nobody idle starts a thread.
#[test]
fn threads_that_are_started_for_jobs_find_them() {
    check(|| {
        let poll = PollThread::new(1, 2, Duration::ZERO);
        poll.submit(2);
        poll.collect(2);
        poll.stop();
    });
}

/// Stopping while a job is under way: it is finished, and the thread leaves.
#[test]
fn stopping_waits_for_what_has_been_submitted() {
    check(|| {
        let poll = PollThread::new(1, 1, Duration::MAX);
        poll.submit(1);
        let completions = Arc::clone(&poll.completions);
        poll.stop();
        let mut taken = Jobs::new();
        completions.take(&mut taken);
        assert_eq!(taken.len(), 1);
    });
}
