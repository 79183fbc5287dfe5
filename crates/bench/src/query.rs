//! Four questions that dashboards and people on call ask, each several times; the median counts.

use crate::devops::{Devops, cpu_metrics};
use crate::remote_write::send_all;
use crate::system::{BenchError, Kind, Question, System, Targets};
use crate::table::Table;
use runtime::Clock;

/// Feeds `plan` to ours and with `peers` to each installed one, asks each question `times` times, and returns a
/// Markdown table of median milliseconds.
///
/// # Errors
/// A system did not start, refused the data, or could not answer.
pub async fn query(plan: Devops, times: usize, peers: bool) -> Result<String, BenchError> {
    let mut table = Table::default();
    for kind in Kind::chosen(peers) {
        eprintln!("{}: {} samples of {} series …", kind.name(), plan.samples(), plan.series());
        let system = System::start(kind, Targets(&[])).await?;
        send_all(plan, &system.write_url()).await?;
        system.settle().await?;
        for (name, question) in questions(&plan) {
            let mut taken = Vec::new();
            let mut bytes = 0;
            for _ in 0..times.max(1) {
                let clock = Clock::system();
                let start = clock.monotonic();
                bytes = system.ask(&question).await?.bytes;
                taken.push((clock.monotonic() - start).as_secs_f64() * 1e3);
            }
            taken.sort_by(f64::total_cmp);
            let median = taken.get(taken.len() / 2).copied().unwrap_or_default();
            table.note(kind, name, format!("{median:.2}"));
            eprintln!("  {name}: {median:.2} ms, {bytes} bytes");
        }
        system.end().await?;
    }
    Ok(table.markdown())
}

fn questions(plan: &Devops) -> [(&'static str, Question); 4] {
    let end = plan.end / 1000;
    let start = plan.time(0) / 1000;
    let between = |from: i64, to: i64| {
        format!("time > to_timestamp_seconds({from}) AND time <= to_timestamp_seconds({to})")
    };
    let all = cpu_metrics().map(|metric| {
        format!(
            "SELECT '{metric}' AS metric, hostname, date_bin(INTERVAL '1 hour', time) AS hour, avg(value) AS value \
             FROM {metric} WHERE {} GROUP BY hostname, hour",
            between(start, end)
        )
    });
    // The average of a range has no metric name any more, so each gets a label of its own.
    let each = cpu_metrics().map(|metric| {
        format!("label_replace(avg_over_time({metric}[1h]), \"metric\", \"{metric}\", \"\", \"\")")
    });
    let each = each.collect::<Vec<_>>().join(" or ");
    let promql = |text: &str, start, end, step| (text.to_owned(), start, end, step);
    let question = |sql: String, (promql, start, end, step): (String, i64, i64, i64)| Question {
        sql,
        promql,
        start,
        end,
        step,
    };
    [
        (
            "one series, 1 h by minute, ms",
            question(
                format!(
                    "SELECT date_bin(INTERVAL '1 minute', time) AS minute, max(value) AS value FROM cpu_usage_0 \
                     WHERE hostname = 'host_0' AND {} GROUP BY minute ORDER BY minute",
                    between(end - 3600, end)
                ),
                promql("max_over_time(cpu_usage_0{hostname=\"host_0\"}[1m])", end - 3600, end, 60),
            ),
        ),
        (
            "all CPU metrics, all hosts, by hour, ms",
            question(all.collect::<Vec<_>>().join(" UNION ALL "), promql(&each, start, end, 3600)),
        ),
        (
            "rows where CPU > 90 anywhere, ms",
            question(
                format!(
                    "SELECT time, hostname, value FROM cpu_usage_0 WHERE value > 90 AND {}",
                    between(start, end)
                ),
                promql("cpu_usage_0 > 90", start, end, plan.step / 1000),
            ),
        ),
        (
            "last point of each host, ms",
            question(
                "SELECT hostname, time, value FROM last.cpu_usage_0".to_owned(),
                promql("cpu_usage_0", end, end, 0),
            ),
        ),
    ]
}
