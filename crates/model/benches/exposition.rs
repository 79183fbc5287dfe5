//! The parser on a real page, against splitting the same page into lines, which any parser must do.
#![allow(missing_docs)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use model::exposition::Dialect;
use model::exposition::parse::{Line, Parser};
use std::hint::black_box;

const PAGE: &[u8] = include_bytes!("../tests/data/real-chaos-on.prom");

fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("exposition");
    group.throughput(Throughput::Bytes(PAGE.len() as u64));
    group.bench_function("parse", |b| {
        b.iter(|| {
            let mut parser = Parser::new(black_box(PAGE), Dialect::Prometheus);
            let mut sum = 0.0;
            while let Some(line) = parser.next_line() {
                if let Ok(Line::Sample(sample)) = line {
                    sum += sample.value;
                }
            }
            sum
        });
    });
    group.bench_function("parse_and_key", |b| {
        b.iter(|| {
            let mut parser = Parser::new(black_box(PAGE), Dialect::Prometheus);
            let mut labels = 0;
            while let Some(line) = parser.next_line() {
                if let Ok(Line::Sample(_)) = line {
                    labels += parser.key().labels.len();
                }
            }
            labels
        });
    });
    group.bench_function("baseline_lines", |b| {
        b.iter(|| {
            black_box(PAGE).split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count()
        });
    });
    group.finish();
}

criterion_group!(benches, parse);
criterion_main!(benches);
