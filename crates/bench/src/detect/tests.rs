use super::*;
use std::path::Path;
use tempfile::TempDir;

/// One line of `alarms.csv`.
#[derive(Debug)]
struct Line {
    series: String,
    detector: String,
    at: f64,
    to_limit: [f64; 3],
}

fn alarms(data: &Path) -> Vec<Line> {
    let out = TempDir::new().unwrap();
    let plan = DetectPlan {
        data: DetectData::Folder(data),
        out: Some(out.path()),
        detectors: Vec::new(),
        false_alarms_per_day: 0.002,
    };
    let clock = runtime::Clock::system();
    detect(&plan, &|| clock.monotonic().into_std()).unwrap();
    let text = std::fs::read_to_string(out.path().join("alarms.csv")).unwrap();
    let line = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        let number = |at: usize| fields[at].parse().unwrap_or(f64::NAN);
        Line {
            series: fields[0].to_owned(),
            detector: fields[1].to_owned(),
            at: number(4),
            to_limit: [number(10), number(11), number(12)],
        }
    };
    text.lines().skip(1).map(line).collect()
}

#[test]
fn of_the_recordings_the_sick_ones_are_told_by_their_names_and_the_healthy_are_not() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
    let alarms = alarms(&data);
    let told: Vec<(&str, &str)> =
        alarms.iter().map(|it| (it.series.as_str(), it.detector.as_str())).collect();
    assert_eq!(
        told,
        [
            ("failed-burn-in/vu65/process.process", "saturation"),
            ("stand-in/leak200", "leak"),
            ("stand-in/leak400", "leak"),
        ]
    );
    assert!(alarms[0].at <= 30.0, "{:?}", alarms[0]);
    for leak in &alarms[1..] {
        assert!(leak.at <= 110.0, "{leak:?}");
        let series = read::folder(&data).unwrap();
        let series = series.iter().find(|it| it.name == leak.series).unwrap();
        let limit = series.about.limit.unwrap();
        let full = series.values.iter().position(|value| *value >= limit).unwrap();
        let truth = (series.times[full] - series.times[0]) as f64 / 1000.0 - leak.at;
        let [left, low, high] = leak.to_limit;
        assert!((left / truth - 1.0).abs() < 0.1, "{left} s and not {truth}: {leak:?}");
        assert!(low <= truth && truth <= high, "{leak:?}");
    }
}

#[test]
fn a_file_of_no_known_form_is_named_with_its_line() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.csv");
    let told = |text: &str| {
        platform::durable::replace(&path, text.as_bytes()).unwrap();
        let plan = DetectPlan {
            data: DetectData::Folder(dir.path()),
            out: None,
            detectors: vec!["leak".to_owned()],
            false_alarms_per_day: 0.002,
        };
        let clock = runtime::Clock::system();
        detect(&plan, &|| clock.monotonic().into_std()).map_err(|error| error.to_string())
    };
    let said = told("t,value\n0,1\nnoon,2\n").unwrap_err();
    assert!(said.contains("a.csv") && said.contains("line 3: \"noon\" is neither"), "{said}");
    let said = told("a,b\n1,2\n").unwrap_err();
    assert!(said.contains("no CSV file with a column named t, time or timestamp"), "{said}");
    let said = told("t,value,load\n0,1,\n60,,5\n120,x,5\n").unwrap();
    assert!(said.contains("| leak | 1 | 0 | 0 |"), "{said}");
}

#[test]
fn truth_and_labels_are_scored() {
    let dir = TempDir::new().unwrap();
    let rows: String =
        (0..4000).map(|n| format!("{},{}\n", n * 60, if n == 3000 { 90 } else { n % 7 })).collect();
    let label = |n: i64| i64::from((3000..3003).contains(&n));
    let labelled: String = (0..4000_i64)
        .map(|n| format!("{},{},{}\n", n * 60, if n == 3000 { 90 } else { n % 7 }, label(n)))
        .collect();
    platform::durable::replace(&dir.path().join("ok.csv"), format!("t,value\n{rows}").as_bytes())
        .unwrap();
    platform::durable::replace(
        &dir.path().join("spike.csv"),
        format!("timestamp,value,label\n{labelled}").as_bytes(),
    )
    .unwrap();
    let truth = r#"[{"id": "ok", "signal": "memory", "kind": "ok_flat", "leak": false, "dt": 60}]"#;
    platform::durable::replace(&dir.path().join("truth.json"), truth.as_bytes()).unwrap();
    let plan = DetectPlan {
        data: DetectData::Folder(dir.path()),
        out: None,
        detectors: Vec::new(),
        false_alarms_per_day: 0.05,
    };
    let clock = runtime::Clock::system();
    let said = detect(&plan, &|| clock.monotonic().into_std()).unwrap();
    assert!(said.contains("false alarms a clean series-day 0.0000 (0 in 3)"), "{said}");
    assert!(said.contains("labelled rows (1 events in 3 series-days): 1.00 found"), "{said}");
}
