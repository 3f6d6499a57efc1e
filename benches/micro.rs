//! The pieces by themselves: `cargo bench --bench micro`.
//!
//! - *parse*: the head of a request of wrk's, and of a browser's;
//! - *respond*: the page, from the site to bytes;
//! - *hand-over*: jobs to the quick lane and back, answered, with the poller and the bell that the event loop has. What is
//!   measured is a round trip: submit, sleep until the bell rings, take, until all are back.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hello::event_loop::completions::Completions;
use hello::event_loop::job::{Job, Jobs, Rules};
use hello::event_loop::workers::{Common, LaneConfig, Workers};
use hello::http::date::DateCache;
use hello::http::parse::{Parsed, parse};
use hello::http::{Method, Persistence, Request};
use hello::limits::Limits;
use hello::metrics::Metrics;
use hello::service::Service;
use hello::site::Site;
use mio::{Events, Poll, Token, Waker};

const WRK: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";

const BROWSER: &[u8] = b"GET / HTTP/1.1\r\n\
    Host: 127.0.0.1:8080\r\n\
    Connection: keep-alive\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    Sec-Fetch-Site: none\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: es-ES,es;q=0.9,fr;q=0.8\r\n\r\n";

fn parsing(criterion: &mut Criterion) {
    let limits = Limits::default();
    let mut group = criterion.benchmark_group("parse");
    for (name, bytes) in [("wrk", WRK), ("browser", BROWSER)] {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| parse(black_box(bytes), &limits)));
    }
}

fn responding(criterion: &mut Criterion) {
    let Ok(Parsed::Complete { head, .. }) = parse(WRK, &Limits::default()) else { panic!("it is a request") };
    let site = Site::default();
    let mut dates = DateCache::default();
    let mut output = Vec::new();
    criterion.bench_function("respond", |bencher| {
        bencher.iter(|| {
            output.clear();
            let response = site.respond(black_box(&Request::new(&head, WRK)));
            let date = dates.at(Instant::now(), SystemTime::now);
            response.write(Method::Get, Persistence::KeepAlive, date, &mut output);
            output.len()
        });
    });
}

fn handing_over(criterion: &mut Criterion) {
    let mut poll = Poll::new().expect("a poller can be had");
    let mut events = Events::with_capacity(8);
    let waker = Waker::new(poll.registry(), Token(0)).expect("a waker can be had");
    let completions = Arc::new(Completions::new(waker));
    let (limits, service) = (Limits::default(), Arc::new(Site::default()));
    let common = Common {
        service: service.clone(),
        completions: Arc::clone(&completions),
        metrics: Arc::new(Metrics::default()),
        limits: limits.clone(),
        draining: AtomicBool::new(false),
    };
    let patience = Duration::from_millis(10);
    let ring_put_off = Duration::from_micros(100);
    let config =
        LaneConfig { name: "bench", threads_min: 2, threads_max: 2, queue_max: usize::MAX, patience, ring_put_off };
    let workers = Workers::start(config, Arc::new(common)).expect("two threads can be had");
    let rules = Rules { limits: &limits, service: &*service, requests_max: usize::MAX };

    let mut group = criterion.benchmark_group("hand-over");
    for count in [1_u64, 16, 64] {
        group.throughput(Throughput::Elements(count));
        let mut jobs: Jobs = (0..count).map(|_| Box::<Job>::default()).collect();
        let mut back = Jobs::new();
        group.bench_function(format!("{count} jobs"), |bencher| {
            bencher.iter(|| {
                for job in &mut jobs {
                    job.reset();
                    job.receive(WRK, &rules);
                }
                workers.submit(&mut jobs, Instant::now());
                while (jobs.len() as u64) < count {
                    if completions.may_sleep() {
                        poll.poll(&mut events, Some(patience)).expect("the poller works");
                    }
                    completions.take(&mut back);
                    jobs.append(&mut back);
                }
            });
        });
    }
    group.finish();
    let _ = workers.stop(Instant::now() + Duration::from_secs(1));
}

criterion_group!(benches, parsing, responding, handing_over);
criterion_main!(benches);
