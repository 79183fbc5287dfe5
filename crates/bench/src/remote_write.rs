//! The data as remote-write requests, sent over a few connections that each wait for the answer.

use crate::devops::Devops;
use crate::system::BenchError;
use bytes::Bytes;
use platform::http::{HttpClient, Method};
use runtime::Clock;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Samples of one request, as Prometheus' own sender takes by default.
const SAMPLES: usize = 2_000;
/// Connections side by side.
const SENDERS: usize = 4;
/// Attempts for one request before the run fails.
const ATTEMPTS: usize = 60;

/// Encoded requests.
#[derive(Debug)]
pub(crate) struct Encoder {
    /// The protobuf bytes of each series' labels.
    labels: Vec<Vec<u8>>,
}

impl Encoder {
    pub(crate) fn new(plan: &Devops) -> Self {
        let encode = |(metric, mut labels): (String, Vec<(&'static str, String)>)| {
            labels.push(("__name__", metric));
            labels.sort();
            let mut out = Vec::new();
            for (name, value) in labels {
                let mut label = Vec::new();
                put(&mut label, 0x0a, name.as_bytes());
                put(&mut label, 0x12, value.as_bytes());
                put(&mut out, 0x0a, &label);
            }
            out
        };
        Self { labels: plan.keys().into_iter().map(encode).collect() }
    }

    /// For one series without labels.
    pub(crate) fn of_metric(metric: &str) -> Self {
        let mut label = Vec::new();
        put(&mut label, 0x0a, b"__name__");
        put(&mut label, 0x12, metric.as_bytes());
        let mut labels = Vec::new();
        put(&mut labels, 0x0a, &label);
        Self { labels: vec![labels] }
    }

    /// One step of every series, as compressed requests.
    pub(crate) fn step(&self, time: i64, values: &[f64]) -> Vec<Vec<u8>> {
        let rows: Vec<(&Vec<u8>, &f64)> = self.labels.iter().zip(values).collect();
        rows.chunks(SAMPLES)
            .map(|rows| {
                let mut body = Vec::with_capacity(rows.len() * 320);
                let mut part = Vec::new();
                for (labels, value) in rows {
                    part.clear();
                    part.extend_from_slice(labels);
                    let mut sample = vec![0x09];
                    sample.extend_from_slice(&value.to_le_bytes());
                    sample.push(0x10);
                    put_varint(&mut sample, time as u64);
                    put(&mut part, 0x12, &sample);
                    put(&mut body, 0x0a, &part);
                }
                snap::raw::Encoder::new().compress_vec(&body).unwrap_or_default()
            })
            .collect()
    }
}

fn put(out: &mut Vec<u8>, tag: u8, part: &[u8]) {
    out.push(tag);
    put_varint(out, part.len() as u64);
    out.extend_from_slice(part);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Sends all of `plan` to `url` and returns how long that took.
pub(crate) async fn send_all(plan: Devops, url: &str) -> Result<Duration, BenchError> {
    let clock = Clock::system();
    let (requests, mut queue) = mpsc::channel::<Vec<u8>>(4 * SENDERS);
    let generator = tokio::task::spawn_blocking(move || {
        let encoder = Encoder::new(&plan);
        let mut walk = plan.walk();
        for step in 0..plan.steps {
            for request in encoder.step(plan.time(step), walk.next_step()) {
                if requests.blocking_send(request).is_err() {
                    return; // a sender failed and says why
                }
            }
        }
    });
    let start = clock.monotonic();
    let client = HttpClient::new();
    let url: Arc<str> = Arc::from(url);
    let mut senders = tokio::task::JoinSet::new();
    // Each sender takes every n-th request, so that a series' samples stay nearly in order.
    let mut lanes = Vec::new();
    for _ in 0..SENDERS {
        let (lane, mut work) = mpsc::channel::<Vec<u8>>(2);
        lanes.push(lane);
        let (client, url) = (client.clone(), Arc::clone(&url));
        senders.spawn(async move {
            while let Some(request) = work.recv().await {
                send(&client, &url, request).await?;
            }
            Ok::<_, BenchError>(())
        });
    }
    // Requests of one step hold different series; the same part of each step goes to the same sender.
    let parts = plan.series().div_ceil(SAMPLES);
    let mut number = 0;
    while let Some(request) = queue.recv().await {
        let Some(lane) = lanes.get(number % parts % SENDERS) else { break };
        if lane.send(request).await.is_err() {
            break;
        }
        number += 1;
    }
    drop((lanes, queue));
    while let Some(ended) = senders.join_next().await {
        ended.map_err(BenchError::task)??;
    }
    generator.await.map_err(BenchError::task)?;
    Ok(clock.monotonic() - start)
}

/// Sends one request until it is taken.
pub(crate) async fn send(client: &HttpClient, url: &str, body: Vec<u8>) -> Result<(), BenchError> {
    let body = Bytes::from(body);
    let headers = [
        ("content-type", "application/x-protobuf"),
        ("content-encoding", "snappy"),
        ("x-prometheus-remote-write-version", "0.1.0"),
    ];
    let mut last = String::new();
    for _ in 0..ATTEMPTS {
        let clock = Clock::system();
        let deadline = clock.monotonic() + Duration::from_secs(60);
        let answer = client.send(Method::POST, url, &headers, body.clone(), deadline).await?;
        let status = answer.status;
        let text = answer.body(1 << 16).await?;
        if status < 300 {
            return Ok(());
        }
        last = format!("{status}: {}", String::from_utf8_lossy(&text));
        if status < 500 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Err(BenchError::Refused { url: url.to_owned(), answer: last })
}
