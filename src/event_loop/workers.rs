//! The threads that answer: a queue, and a pool that grows when jobs wait and shrinks when they do not.
//!
//! The server has two of these, called lanes. The *quick* lane has about as many threads as the machine has cores; since
//! its jobs do not wait for anything, more would only get in each other's way. The *slow* lane has a thread for every
//! job, up to a limit, because its jobs spend their time waiting; an idle thread beyond the minimum leaves after a while.
//! So a crowd of sleepers holds real, blocked threads, and yet nobody else waits behind it.
//!
//! # When another thread is put to work
//!
//! If a job waits and every thread is idle, one is woken, of course. Beyond that, two rules serve both lanes:
//!
//! - when the oldest job has waited longer than the lane's *patience*, one more idle thread is woken;
//! - when there is no idle thread either, and no job has been *taken* for as long, one more thread is started, if there
//!   may be more.
//!
//! The slow lane has no patience, so every job that finds nobody idle starts a thread. The quick lane has a little: as
//! long as its jobs move on, the thread that is awake is left to deal with them, which saves waking a second one for work
//! that takes less time than the waking. And if a handler blocks without having said so, the second rule lets the others
//! overtake it. It goes by the jobs taken and not by the time waited, because on a machine that is busy enough every job
//! waits, and more threads would only make it busier.
//!
//! The rules are applied wherever something could have changed: when jobs are submitted, when a worker takes one and
//! leaves others behind, and by the poll thread when it finds time passing ([`Workers::nudge`]).
//!
//! # What must always hold
//!
//! - Every job submitted comes back through [`Completions`] exactly once, whatever the handler does: a panic is caught,
//!   answered 500, and costs neither the thread nor the other jobs.
//! - Jobs are taken one at a time and in order, so that none waits behind another in a busy thread's hands while a
//!   second thread idles.
//! - The mutex guards the queue and the counts, and is never held across a system call, a handler or another lock.
//! - If the queue is not empty, a thread is awake and will look at it, or a nudge is due.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::completions::Completions;
use super::job::{After, Job, Jobs, Refusal, Task};
use super::sync::{Condvar, Mutex, MutexGuard, thread};
use crate::http::date::DateCache;
use crate::http::response::CONTINUE;
use crate::http::{Persistence, Request, Response, Status};
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::service::{Lane, Service};

/// How long a thread beyond the minimum stays idle before it leaves.
const IDLE_THREAD_STAYS: Duration = Duration::from_secs(10);

/// The size and manners of a lane.
#[derive(Clone, Debug)]
pub struct LaneConfig {
    /// The name of its threads, without their number.
    pub name: &'static str,
    /// Threads that are always there.
    pub threads_min: usize,
    /// Threads there may be.
    pub threads_max: usize,
    /// Jobs that may wait.
    pub queue_max: usize,
    /// How long the oldest job may wait before another thread is put to work; see the module's text.
    pub patience: Duration,
    /// How long a worker that has more to do may keep finished jobs before it rings for them, so that more can come back
    /// with one ring.
    pub ring_put_off: Duration,
}

/// What both lanes share.
pub struct Common {
    /// Who answers.
    pub service: Arc<dyn Service>,
    /// The way back.
    pub completions: Arc<Completions>,
    /// Where panics and threads that could not be started are counted.
    pub metrics: Arc<Metrics>,
    /// How much output a job may have.
    pub limits: Limits,
    /// Set when the server begins to shut down; from then on every answer says that the connection closes.
    pub draining: AtomicBool,
}

/// One lane: a queue and the threads that serve it.
pub struct Workers {
    lane: Arc<LaneShared>,
}

struct LaneShared {
    config: LaneConfig,
    common: Arc<Common>,
    queue: Mutex<Queue>,
    /// Signalled when there is a job for an idle thread, or when the lane stops.
    work: Condvar,
    /// Signalled when the last thread of a stopped lane has left.
    left: Condvar,
}

struct Queue {
    /// Jobs in order, each with the time it was submitted.
    jobs: VecDeque<(Instant, Box<Job>)>,
    /// When a job was last taken while others waited.
    taken: Instant,
    /// Threads there are, in whatever state.
    threads: usize,
    /// Those that wait for work and have not been woken for any.
    idle: usize,
    /// Wake-ups sent that no idle thread has answered yet.
    woken: usize,
    /// Those that have been started and have not looked at the queue yet.
    starting: usize,
    /// The number of the next thread.
    next_id: usize,
    stopping: bool,
}

/// What it takes to put another thread to work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Help {
    NotNeeded,
    /// Wake an idle thread; it has been counted out of the idle ones.
    Wake,
    /// Start the thread with this number; it has been counted in.
    Start(usize),
}

impl fmt::Debug for Common {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Common").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Workers").field("lane", &self.lane.config).finish_non_exhaustive()
    }
}

impl Workers {
    /// Starts a lane with its minimum of threads.
    ///
    /// # Errors
    ///
    /// If the system refuses to start one of them.
    pub fn start(config: LaneConfig, common: Arc<Common>) -> std::io::Result<Self> {
        let queue = Queue {
            jobs: VecDeque::new(),
            taken: Instant::now(),
            threads: config.threads_min,
            idle: 0,
            woken: 0,
            starting: config.threads_min,
            next_id: config.threads_min,
            stopping: false,
        };
        let shared =
            LaneShared { config, common, queue: Mutex::new(queue), work: Condvar::new(), left: Condvar::new() };
        let workers = Self { lane: Arc::new(shared) };
        for id in 0..workers.lane.config.threads_min {
            LaneShared::start_thread(&workers.lane, id)?;
        }
        Ok(workers)
    }

    /// Queues jobs, in order. Those for which there is no room stay in `jobs`.
    pub fn submit(&self, jobs: &mut Jobs, now: Instant) {
        let help = {
            let mut queue = self.lane.lock();
            let count = queue.room(&self.lane.config).min(jobs.len());
            queue.jobs.extend(jobs.drain(..count).map(|job| (now, job)));
            queue.help(&self.lane.config, now)
        };
        self.lane.give(help);
    }

    /// Applies the rules at a moment when nothing else does. Says whether jobs are waiting.
    #[must_use]
    pub fn nudge(&self, now: Instant) -> bool {
        let (help, waiting) = {
            let mut queue = self.lane.lock();
            (queue.help(&self.lane.config, now), !queue.jobs.is_empty())
        };
        self.lane.give(help);
        waiting
    }

    /// Lets the threads finish what is queued and leave; waits for that until `deadline`. Says whether all have left.
    #[must_use]
    pub fn stop(&self, deadline: Instant) -> bool {
        let mut queue = self.lane.lock();
        queue.stopping = true;
        self.lane.work.notify_all();
        while queue.threads > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            queue = self.lane.left.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Drop for Workers {
    /// Lets the threads leave when they have finished; waits for nobody.
    fn drop(&mut self) {
        self.lane.lock().stopping = true;
        self.lane.work.notify_all();
    }
}

impl Queue {
    /// The number of jobs that can be taken in: those that may wait, and one for each thread that is free or could be
    /// started.
    fn room(&self, config: &LaneConfig) -> usize {
        let free = self.idle + self.coming() + config.threads_max.saturating_sub(self.threads);
        config.queue_max.saturating_add(free).saturating_sub(self.jobs.len())
    }

    /// Whether a thread may leave. One that is starting may yet fail to, and is not counted upon.
    fn has_spare_thread(&self, config: &LaneConfig) -> bool {
        self.threads - self.starting > config.threads_min
    }

    /// Threads on their way to the queue.
    fn coming(&self) -> usize {
        self.woken + self.starting
    }

    /// Applies the rules: decides whether another thread is put to work, and notes the decision in the counts.
    fn help(&mut self, config: &LaneConfig, now: Instant) -> Help {
        let Some((oldest, _)) = self.jobs.front() else { return Help::NotNeeded };
        if self.coming() >= self.jobs.len() {
            return Help::NotNeeded;
        }
        let everybody_is_idle = self.threads == self.idle;
        let impatient = now.saturating_duration_since(*oldest) >= config.patience;
        let stuck = now.saturating_duration_since(self.taken.max(*oldest)) >= config.patience;
        if self.idle > 0 && (impatient || everybody_is_idle) {
            self.idle -= 1;
            self.woken += 1;
            Help::Wake
        } else if self.idle == 0 && stuck && self.threads < config.threads_max {
            self.threads += 1;
            self.starting += 1;
            self.next_id += 1;
            Help::Start(self.next_id - 1)
        } else {
            Help::NotNeeded
        }
    }

    /// Takes the oldest job, and says whether another thread has to be put to work for those behind it.
    fn take(&mut self, config: &LaneConfig, now: Instant) -> Option<(Box<Job>, Help)> {
        let (_, job) = self.jobs.pop_front()?;
        let help = self.help(config, now);
        self.taken = now;
        Some((job, help))
    }
}

impl LaneShared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No code that can panic runs under this lock, so what it guards is whole even if it were poisoned.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what [`Queue::help`] decided; called without the lock, since both cases are system calls.
    fn give(self: &Arc<Self>, help: Help) {
        match help {
            Help::NotNeeded => {}
            Help::Wake => self.work.notify_one(),
            Help::Start(id) => {
                if let Err(error) = Self::start_thread(self, id) {
                    // The threads there are will get to the job; there is always at least one.
                    log::warn!("cannot start thread {}-{id}: {error}", self.config.name);
                    self.common.metrics.spawn_failures.add(1);
                    let mut queue = self.lock();
                    queue.threads -= 1;
                    queue.starting -= 1;
                }
            }
        }
    }

    fn start_thread(lane: &Arc<Self>, id: usize) -> std::io::Result<()> {
        let name = format!("{}-{id}", lane.config.name);
        let lane = Arc::clone(lane);
        thread::Builder::new().name(name).spawn(move || lane.run(id)).map(drop)
    }

    /// The life of a worker thread.
    fn run(self: &Arc<Self>, id: usize) {
        let mut answerer = Answerer::new(Arc::clone(&self.common));
        let mut now = Instant::now();
        // Since when this worker has put a ring off.
        let mut unrung = None;
        let mut queue = self.lock();
        queue.starting -= 1;
        loop {
            if let Some((mut job, help)) = queue.take(&self.config, now) {
                drop(queue);
                self.give(help);
                log::debug!("Worker {}-{id} got a job; executing.", self.config.name);
                answerer.answer(&mut job, now);
                self.common.completions.push(job);
                // The only look at the clock for a job: it dates the next one's answers, too.
                now = Instant::now();
                queue = self.lock();
                // The ring is put off while there is more to do, unless that may take long.
                let put_off = now.saturating_duration_since(*unrung.get_or_insert(now));
                if queue.jobs.is_empty() || put_off >= self.config.ring_put_off {
                    drop(queue);
                    unrung = None;
                    self.common.completions.ring_if_owed();
                    queue = self.lock();
                }
            } else if queue.stopping {
                break;
            } else {
                match self.idle(queue) {
                    Some(awake) => {
                        queue = awake;
                        now = Instant::now();
                    }
                    None => return,
                }
            }
        }
        queue.threads -= 1;
        if queue.threads == 0 {
            self.left.notify_all();
        }
    }

    /// Waits until there may be work, or the lane stops. `None` if the thread is not needed any more; it has been
    /// counted out.
    fn idle<'a>(&'a self, mut queue: MutexGuard<'a, Queue>) -> Option<MutexGuard<'a, Queue>> {
        queue.idle += 1;
        loop {
            let timed_out;
            (queue, timed_out) = if queue.has_spare_thread(&self.config) {
                let (queue, wait) =
                    self.work.wait_timeout(queue, IDLE_THREAD_STAYS).unwrap_or_else(PoisonError::into_inner);
                (queue, wait.timed_out())
            } else {
                (self.work.wait(queue).unwrap_or_else(PoisonError::into_inner), false)
            };
            if queue.woken > 0 {
                queue.woken -= 1;
                return Some(queue);
            }
            if queue.stopping {
                queue.idle -= 1;
                return Some(queue);
            }
            if timed_out && queue.has_spare_thread(&self.config) {
                queue.idle -= 1;
                queue.threads -= 1;
                return None;
            }
        }
    }
}

/// What a worker brings to a job.
pub(crate) struct Answerer {
    common: Arc<Common>,
    dates: DateCache,
}

impl Answerer {
    pub(crate) fn new(common: Arc<Common>) -> Self {
        Self { common, dates: DateCache::default() }
    }

    /// Answers a job's requests, as many as fit its output. What happens at once happens `now`.
    pub(crate) fn answer(&mut self, job: &mut Job, mut now: Instant) {
        if job.task == Task::Continue {
            job.output.extend_from_slice(CONTINUE);
            return;
        }
        while let Some(request) = job.next_request() {
            let method = request.method();
            let wanted = request.persistence();
            let response = match job.task {
                Task::Overloaded => overloaded(),
                _ => self.respond(&request),
            };
            if job.lane() == Lane::Slow {
                now = Instant::now();
            }
            let says_goodbye = job.is_at_last() && self.is_farewell(job);
            let persistence = if response.closes() || says_goodbye { Persistence::Close } else { wanted };
            response.write(method, persistence, self.dates.at(now, SystemTime::now), &mut job.output);
            job.request_answered();
            if persistence == Persistence::Close {
                job.give_up();
                job.after = if wanted == Persistence::Close { After::Close } else { After::Linger };
                return;
            }
            if job.output.len() >= self.common.limits.output_bytes_max {
                return;
            }
        }
        if let Task::Refuse(Refusal { status, method }) = job.task {
            let date = self.dates.at(now, SystemTime::now);
            Response::error(status).write(method, Persistence::Close, date, &mut job.output);
            job.refused();
            job.after = After::Linger;
        }
    }

    /// Whether the client gets no answer after this job's. During a shutdown, requests that have been read already
    /// still do.
    fn is_farewell(&self, job: &Job) -> bool {
        job.farewell || (!job.has_leftover() && self.common.draining.load(Ordering::Relaxed))
    }

    /// Lets the service respond; a panic of its becomes a response, too.
    fn respond(&self, request: &Request<'_>) -> Response {
        panic::catch_unwind(AssertUnwindSafe(|| self.common.service.respond(request))).unwrap_or_else(|_| {
            self.common.metrics.panics.add(1);
            Response::error(Status::INTERNAL_SERVER_ERROR).closing()
        })
    }
}

/// The answer to a request for which there is neither a thread nor a place to wait (RFC 9110 section 15.6.4).
fn overloaded() -> Response {
    Response::error(Status::SERVICE_UNAVAILABLE).with_field("Retry-After", "1")
}
