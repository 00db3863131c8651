//! The rows of bench/scheduler.c in tokio's multi-thread runtime: tokio-peer [THREADS]; one JSON line per row.
use std::future::Future;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};

const MILLION: usize = 1_000_000;
const ROUNDS: usize = 5;
const N_REQUESTS: usize = 200_000;
const N_TIMERS: usize = 100_000;

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn measure<F, T>(runtime: &Runtime, row: &str, n: usize, make: F)
where
    F: Fn() -> T,
    T: Future<Output = ()> + Send + 'static,
{
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let task = make();
        runtime.block_on(async { tokio::spawn(task).await.unwrap() });
        best = best.min(start.elapsed().as_nanos() as f64 / n as f64);
    }
    println!("{{\"row\": \"{row}\", \"ns\": {best:.1}}}");
}

async fn one_by_one() {
    for _ in 0..MILLION {
        tokio::spawn(async {}).await.unwrap();
    }
}

async fn all_first() {
    let mut children = Vec::with_capacity(MILLION);
    for _ in 0..MILLION {
        children.push(tokio::spawn(async {}));
    }
    for child in children {
        child.await.unwrap();
    }
}

async fn yielder() {
    for _ in 0..MILLION {
        tokio::task::yield_now().await;
    }
}

async fn client() {
    let (requests, mut queue) = mpsc::channel::<oneshot::Sender<i32>>(64);
    let server = tokio::spawn(async move {
        while let Some(answer) = queue.recv().await {
            let _ = answer.send(1);
        }
    });
    for _ in 0..N_REQUESTS {
        let (answer, result) = oneshot::channel();
        requests.send(answer).await.unwrap();
        result.await.unwrap();
    }
    drop(requests);
    server.await.unwrap();
}

fn produce(channel: mpsc::Sender<u64>, n: usize) {
    tokio::spawn(async move {
        for i in 0..n as u64 {
            channel.send(i).await.unwrap();
        }
    });
}

async fn consume(n_producers: usize) {
    let (sender, mut receiver) = mpsc::channel::<u64>(1024);
    for _ in 0..n_producers {
        produce(sender.clone(), MILLION / n_producers);
    }
    drop(sender);
    let (mut n, mut sum) = (0, 0u64);
    while let Some(value) = receiver.recv().await {
        n += 1;
        sum = sum.wrapping_add(value);
    }
    std::hint::black_box(sum);
    assert_eq!(n, MILLION);
}

async fn choose() {
    let mut receivers = Vec::new();
    for _ in 0..4 {
        let (sender, receiver) = mpsc::channel::<u64>(256);
        produce(sender, MILLION / 4);
        receivers.push(receiver);
    }
    let mut next = receivers.into_iter();
    let mut a = next.next().unwrap();
    let mut b = next.next().unwrap();
    let mut c = next.next().unwrap();
    let mut d = next.next().unwrap();
    let (mut n, mut sum) = (0, 0u64);
    loop {
        let value = tokio::select! {
            Some(x) = a.recv() => x,
            Some(x) = b.recv() => x,
            Some(x) = c.recv() => x,
            Some(x) = d.recv() => x,
            else => break,
        };
        n += 1;
        sum = sum.wrapping_add(value);
    }
    std::hint::black_box(sum);
    assert_eq!(n, MILLION);
}

async fn many_timers() {
    let mut children = Vec::with_capacity(N_TIMERS);
    for _ in 0..N_TIMERS {
        children.push(tokio::spawn(tokio::time::sleep(Duration::from_millis(1))));
    }
    for child in children {
        child.await.unwrap();
    }
}

fn measure_memory(runtime: &Runtime) {
    let mut senders = Vec::with_capacity(MILLION);
    senders.resize_with(MILLION, || None); // its pages are touched before
    let before = resident_bytes();
    runtime.block_on(async {
        for sender in senders.iter_mut() {
            let (answer, result) = oneshot::channel::<i32>();
            *sender = Some(answer);
            tokio::spawn(async move {
                let _ = result.await;
            });
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    });
    let bytes = (resident_bytes() - before) / MILLION;
    println!("{{\"row\": \"pending task on a oneshot\", \"bytes\": {bytes}}}");
}

fn main() {
    let threads = std::env::args().nth(1).map_or(2, |n| n.parse().unwrap());
    let runtime = Builder::new_multi_thread().worker_threads(threads).enable_time().build().unwrap();
    measure_memory(&runtime);
    measure(&runtime, "spawn and join, one by one", MILLION, one_by_one);
    measure(&runtime, "spawn all, then join", MILLION, all_first);
    measure(&runtime, "yield", MILLION, yielder);
    measure(&runtime, "request and answer, oneshot", N_REQUESTS, client);
    measure(&runtime, "bounded channel, 1 producer", MILLION, || consume(1));
    measure(&runtime, "bounded channel, 4 producers", MILLION, || consume(4));
    measure(&runtime, "select of 4", MILLION, choose);
    measure(&runtime, "timers of 1 ms, 100,000", N_TIMERS, many_timers);
}
