use super::*;
use datafusion::prelude::SessionContext;

/// What a query with one call is taken for, or the error.
fn taken(sql: &str) -> Result<Vec<Call>, String> {
    let dialect = SessionContext::new().state().config().options().sql_parser.dialect;
    let mut statement = SessionContext::new().state().sql_to_statement(sql, &dialect).unwrap();
    let params = [ScalarValue::Utf8(Some("m".to_owned())), ScalarValue::Int64(Some(7))];
    take(&mut statement, &params, Timestamp(100_000_000)).map_err(|error| error.to_string())
}

#[test]
fn arguments_are_named_and_times_may_be_ages() {
    let sql = "SELECT * FROM leaks(metric => $1, labels => 'job=api, zone=\"b\"', \"from\" => '1 hour', at => '1970-01-02T00:00:00Z', \"limit\" => $2) AS l JOIN forecast('x*', horizon => '2 days') ON true";
    let calls = taken(sql).unwrap();
    let [leaks, forecast] = &calls[..] else { panic!("{calls:?}") };
    assert_eq!((leaks.function, leaks.metric.as_deref()), (Function::Leaks, Some("m")));
    let labels = [("job", "api"), ("zone", "b")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(leaks.labels, labels.into());
    assert_eq!(leaks.from, Some(Timestamp(100_000_000 - 3_600_000)));
    assert_eq!((leaks.at, leaks.limit), (Some(Timestamp(86_400_000)), Some(7.0)));
    assert_eq!(forecast.metric.as_deref(), Some("x*"));
    assert_eq!(forecast.horizon, Some(Duration::from_secs(172_800)));
    let json = taken("SELECT * FROM drifts(labels => '{\"job\": \"a,b\"}')").unwrap();
    assert_eq!(json[0].labels["job"], "a,b");
    assert_eq!(taken("SELECT * FROM generate_series(1, 3)").unwrap(), []);
    assert_eq!(taken("EXPLAIN SELECT * FROM anomalies()").unwrap().len(), 1);
}

#[test]
fn what_is_wrong_with_an_argument_is_told() {
    for (args, told) in [
        (
            "metrics => 'a'",
            "leaks: metrics: no such argument; there are metric, labels, from, to, at",
        ),
        ("metric => 'a', metric => 'b'", "leaks: metric is given twice"),
        ("metric => 7", "metric: Number(7.0) is not of its type"),
        ("at => 'soon'", "at: \"soon\" is neither a time in RFC 3339 nor an age such as '2 hours'"),
        ("labels => 'job'", "labels: \"job\" is not name=value"),
        ("metric => '['", "metric:"),
        ("metric => 'a', 'b'", "name each argument"),
        ("at => now()", "at: now() is no plain value"),
        ("metric => $3", "metric: there is no parameter $3"),
    ] {
        let said = taken(&format!("SELECT * FROM leaks({args})")).unwrap_err();
        assert!(said.contains(told), "{args}: {said}");
    }
}
