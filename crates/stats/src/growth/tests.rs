use super::*;

const MINUTE: i64 = 60_000;
const DAY_MIN: i64 = 1_440;

struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64 - 0.5
    }
}

fn load_at(minute: i64) -> f64 {
    let weekend = (minute / DAY_MIN).rem_euclid(7) >= 5;
    let wave = 1.0 + 0.4 * (minute as f64 / DAY_MIN as f64 * std::f64::consts::TAU).sin();
    100.0 * wave * if weekend { 0.7 } else { 1.0 }
}

/// Disk of limit 1000: starts at 300, grows `per_day(minute)` per 100 requests/s and day, with a
/// daily saw of 20.
fn disk(minutes: i64, per_day: impl Fn(i64) -> f64) -> Vec<(i64, f64, f64)> {
    let mut noise = Noise(9);
    let mut used = 300.0;
    (0..minutes)
        .map(|m| {
            let load = load_at(m);
            used += per_day(m) / DAY_MIN as f64 * load / 100.0;
            let saw = 20.0 * (m + 400).rem_euclid(DAY_MIN) as f64 / DAY_MIN as f64;
            (m * MINUTE, used + saw + 0.5 * noise.next(), load)
        })
        .collect()
}

fn feed(g: &mut Growth, rows: &[(i64, f64, f64)], with_load: bool) -> Vec<GrowthAlarm> {
    let load = |l: f64| if with_load { l } else { f64::NAN };
    let shown = rows.iter().filter_map(|r| g.push(r.0, r.1, load(r.2)));
    shown.filter_map(|it| if let Shown::Near(alarm) = it { Some(*alarm) } else { None }).collect()
}

fn limited() -> Growth {
    Growth::new(GrowthConfig { limit: Some(1_000.0), ..GrowthConfig::default() })
}

fn true_seconds(rows: &[(i64, f64, f64)], from: usize) -> f64 {
    let hit = rows.iter().position(|r| r.1 >= 1_000.0).unwrap();
    (rows[hit].0 - rows[from].0) as f64 / 1e3
}

fn full(f: &GrowthForecast) -> Interval {
    f.reach.unwrap()[3].seconds.unwrap()
}

#[test]
fn full_date_is_within_five_percent() {
    let rows = disk(20 * DAY_MIN, |_| 50.0);
    for with_load in [true, false] {
        let mut g = limited();
        let at = 9 * DAY_MIN as usize;
        feed(&mut g, &rows[..at], with_load);
        let (f, truth) = (g.forecast().unwrap(), true_seconds(&rows, at));
        let i = full(&f);
        assert!((i.mid / truth - 1.0).abs() < 0.05, "{i:?} {truth}");
        assert!(i.low <= truth && truth <= i.high, "{i:?} {truth}");
        assert_eq!(f.load_driven, with_load);
    }
}

/// A first hour that was watched for some minutes only must not pass for a day of less growth.
#[test]
fn the_minute_at_which_the_history_begins_changes_no_date() {
    for days in 2..=6 {
        for begin in (3..7 * DAY_MIN).step_by(25) {
            let (mut g, mut noise) = (limited(), Noise(9 + begin as u64));
            for m in 0..days * DAY_MIN {
                let used = 300.0 + 50.0 * m as f64 / DAY_MIN as f64 + 0.2 * noise.next();
                g.push((20_780 * DAY_MIN + begin + m) * MINUTE, used, f64::NAN);
            }
            let truth = (14 - days) as f64 * 86_400.0;
            let i = full(&g.forecast().unwrap());
            let place = format!("{days} days from minute {begin}: {i:?}, not {truth}");
            assert!((i.mid / truth - 1.0).abs() < 0.02, "{place}");
            assert!(i.low <= truth && truth <= i.high, "{place}");
        }
    }
}

#[test]
fn change_of_rate_is_found_and_dated() {
    let change = 6 * DAY_MIN + 300;
    let rows = disk(20 * DAY_MIN, |m| if m < change { 25.0 } else { 60.0 });
    let at = (change + DAY_MIN + 60) as usize;
    let mut g = limited();
    feed(&mut g, &rows[..at], true);
    let f = g.forecast().unwrap();
    assert!((f.since_ms - change * MINUTE).abs() <= 4 * HOUR_MS, "{}", f.since_ms);
    assert!((full(&f).mid / true_seconds(&rows, at) - 1.0).abs() < 0.1);
    assert!(f.previous_per_day.unwrap() < 0.6 * f.rate_per_day.mid);
}

#[test]
fn a_copy_or_a_clean_up_is_not_growth() {
    for (jump, at_h) in [(120.0, 30), (-120.0, 30), (120.0, 100), (-120.0, 100)] {
        let mut rows = disk(25 * DAY_MIN, |_| 40.0);
        let from = (6 * DAY_MIN) as usize;
        rows.iter_mut().skip(from).for_each(|r| r.1 += jump);
        let at = from + at_h * 60;
        for with_load in [true, false] {
            let mut g = limited();
            feed(&mut g, &rows[..at], with_load);
            let (i, truth) = (full(&g.forecast().unwrap()), true_seconds(&rows, at));
            assert!((i.mid / truth - 1.0).abs() < 0.15, "{jump} {at_h} {with_load} {i:?} {truth}");
        }
    }
}

#[test]
fn level_disk_has_no_date_and_no_alarm() {
    let rows = disk(20 * DAY_MIN, |_| 0.0);
    let mut g = limited();
    assert!(feed(&mut g, &rows, true).is_empty());
    let full = g.forecast().unwrap().reach.unwrap()[3];
    assert!(full.seconds.is_none() && full.probability < 0.1, "{full:?}");
}

#[test]
fn filling_disk_gets_a_ticket_and_then_a_page() {
    let rows = disk(20 * DAY_MIN, |_| 60.0);
    let hit = rows.iter().position(|r| r.1 >= 1_000.0).unwrap();
    let alarms = feed(&mut limited(), &rows[..hit], true);
    let first = |s: Severity| alarms.iter().find(|a| a.severity == s).unwrap().forecast.time_ms;
    let left_h = |s: Severity| (rows[hit].0 - first(s)) / HOUR_MS;
    assert!((5 * 24..9 * 24).contains(&left_h(Severity::Ticket)));
    assert!((1..8).contains(&left_h(Severity::Page)));
    assert!(alarms.len() <= 3);
}

#[test]
fn room_that_is_made_ends_it_and_the_next_filling_is_told_anew() {
    let rows = disk(40 * DAY_MIN, |_| 60.0);
    for with_load in [true, false] {
        let (mut g, mut freed, mut free_at) = (limited(), 0.0, i64::MAX);
        let (mut over, mut tickets) = (Vec::new(), Vec::new());
        for &(time, used, load) in &rows {
            freed = if time >= free_at { 500.0 } else { freed };
            let load = if with_load { load } else { f64::NAN };
            match g.push(time, used - freed, load) {
                Some(Shown::Over) => over.push(time),
                Some(Shown::Near(alarm)) if alarm.severity == Severity::Ticket => {
                    free_at = free_at.min(time + 30 * HOUR_MS);
                    tickets.push((time, used - freed));
                }
                _ => {}
            }
        }
        assert_eq!(over.len(), 1, "{tickets:?}");
        assert!((1..=7).contains(&((over[0] - free_at) / HOUR_MS)), "{over:?} after {free_at}");
        let again = tickets.iter().find(|it| it.0 > over[0]).unwrap();
        assert!((500.0..700.0).contains(&again.1), "{again:?}");
    }
}

#[test]
fn what_fills_on_or_stays_full_is_not_over() {
    for per_day in [20.0, 60.0] {
        let mut g = limited();
        for (time, used, _) in disk(60 * DAY_MIN, |_| per_day) {
            let shown = g.push(time, used.min(999.0), f64::NAN);
            assert_ne!(shown, Some(Shown::Over), "{used}");
        }
    }
}

#[test]
fn surge_on_a_level_disk_is_paged_before_it_is_full() {
    let start = 4 * DAY_MIN;
    let rows = disk(start + 300, |m| if m < start { 0.0 } else { 5_000.0 });
    let hit = rows.iter().position(|r| r.1 >= 1_000.0).unwrap();
    let alarms = feed(&mut limited(), &rows[..hit], true);
    assert_eq!(alarms.first().map(|a| a.severity), Some(Severity::Page));
}

#[test]
fn a_fresh_detector_fed_the_evidence_gives_the_same_numbers() {
    let rows = disk(33 * DAY_MIN + 77, |_| 8.0);
    let mut g = limited();
    feed(&mut g, &rows, true);
    let f = g.forecast().unwrap();
    let from = rows.iter().position(|r| r.0 >= f.evidence_from_ms).unwrap();
    assert!(from > 0);
    let mut fresh = limited();
    feed(&mut fresh, &rows[from..], true);
    assert_eq!(fresh.forecast(), Some(f));
}

#[test]
fn restart_from_a_snapshot_is_bit_equal() {
    let mut rows = disk(12 * DAY_MIN, |_| 60.0);
    rows.drain(3_000..3_200);
    let (head, tail) = rows.split_at(7_777);
    let mut one = limited();
    feed(&mut one, head, true);
    let mut two: Growth = postcard::from_bytes(&postcard::to_allocvec(&one).unwrap()).unwrap();
    assert!(one == two);
    assert_eq!(feed(&mut one, tail, true), feed(&mut two, tail, true));
    assert_eq!(one.forecast(), two.forecast());
}

fn assert_finite(f: Option<GrowthForecast>) {
    let Some(f) = f else { return };
    let finite = |i: Interval| i.low.is_finite() && i.mid.is_finite() && i.high.is_finite();
    assert!(finite(f.rate_per_day), "{f:?}");
    for r in f.reach.into_iter().flatten() {
        assert!((0.0..=1.0).contains(&r.probability), "{r:?}");
        assert!(r.seconds.is_none_or(finite), "{r:?}");
    }
}

#[test]
fn any_input_is_taken() {
    let mut g = limited();
    let odd = [0.0, -1.0, f64::NAN, f64::INFINITY, f64::MAX, -f64::MAX, 1e-300];
    let times = [0, 0, 1, -5, i64::MAX, i64::MIN, 3_600_000, 999_999_999_999];
    for k in 0..5_000_i64 {
        let t = if k % 3 == 0 { times[(k * 7 % 8) as usize] } else { k * 1_800_000 };
        g.push(t, odd[(k % 7) as usize], odd[(k % 5) as usize]);
    }
    assert_finite(g.forecast());
    for big in [0.0, 1.0, 1e29] {
        for load in [0.0, 1.0, f64::NAN] {
            let mut g = limited();
            for k in 0..800 {
                g.push(k * HOUR_MS / 2, if k % 4 == 0 { big } else { -big }, load);
            }
            assert_finite(g.forecast());
            g.push(i64::MAX, 1.0, 1.0);
            assert_finite(g.forecast());
        }
    }
    let mut late = limited();
    for k in 0..200 {
        late.push(i64::MAX - (200 - k) * HOUR_MS, k as f64, 1.0);
    }
    assert_finite(late.forecast());
    let mut early = limited();
    for k in 0..200 {
        early.push(i64::MIN + k * HOUR_MS, k as f64, f64::NAN);
    }
    assert_finite(early.forecast());
}

#[test]
fn load_that_never_changes_hides_no_weekend() {
    let mut used = 800.0;
    for days in [7, 12] {
        let (mut with, mut without) = (limited(), limited());
        for m in 0..days * DAY_MIN + 900 {
            let weekend = (m / DAY_MIN).rem_euclid(7) >= 5;
            used += if weekend { 5.0 } else { 10.0 } / DAY_MIN as f64;
            with.push(m * MINUTE, used, 0.066);
            without.push(m * MINUTE, used, f64::NAN);
        }
        assert_eq!(with.forecast(), without.forecast());
    }
}

#[test]
fn a_disk_that_is_read_every_other_hour_gets_its_ticket() {
    let rows = disk(20 * DAY_MIN, |_| 60.0);
    for hour in [0, 1] {
        let seldom: Vec<_> =
            rows.iter().filter(|r| r.0 % (2 * HOUR_MS) == hour * HOUR_MS).copied().collect();
        let hit = seldom.iter().position(|r| r.1 >= 1_000.0).unwrap();
        let alarms = feed(&mut limited(), &seldom[..hit], false);
        assert_eq!(alarms.first().map(|a| a.severity), Some(Severity::Ticket));
    }
}
