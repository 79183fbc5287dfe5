//! One scrape from its tick to its batch: the page's samples, `up`, and the scrape's own figures, all at
//! one time and in one batch.

use super::Meters;
use super::client::JobClient;
use super::fetch::{FetchError, Page, fetch};
use super::retry::{Outcome, Policy};
use crate::job::Tools;
use crate::stage::Stage;
use crate::target::{Manner, Place, Target};
use ahash::RandomState;
use model::exposition::Dialect;
use model::exposition::parse::{Line, Malformed, Parser, Reason, unescape};
use model::sample::STALE_BITS;
use model::{MetricKind, Timestamp};
use runtime::{Clock, Jitter};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use store::Series;
use tracing::{debug, info, warn};

/// Malformed lines of a page that are kept to be shown.
const SHOWN: usize = 10;

/// Scrapes one target, again and again.
#[derive(Debug)]
pub(crate) struct Cycle {
    target: Arc<Target>,
    client: Arc<JobClient>,
    clock: Clock,
    jitter: Jitter,
    page: PageReader,
    place: Place,
    /// Failed attempts by reason, since our start.
    failures: BTreeMap<&'static str, u64>,
    meters: Meters,
}

impl Cycle {
    pub(crate) fn new(target: Arc<Target>, tools: &Tools, client: Arc<JobClient>) -> Self {
        let stage = Stage::new(tools.writer.clone(), target.labels.clone());
        let page = PageReader::new(stage, &target.manner);
        let (jitter, place) = (Jitter::random(), tools.board.register(&target));
        let (clock, meters) = (tools.clock, tools.meters.clone());
        Self { target, client, clock, jitter, page, place, failures: BTreeMap::new(), meters }
    }

    pub(crate) fn target(&self) -> Arc<Target> {
        Arc::clone(&self.target)
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    /// Scrapes what is due at `due`, ending before `next`.
    pub(crate) async fn run(&mut self, due: Timestamp, next: Timestamp) {
        let start = self.clock.monotonic();
        // What remains after the last attempt is for reading and appending.
        let manner = &self.target.manner;
        let guard = (manner.interval / 20).min(Duration::from_millis(500));
        let deadline = start + self.clock.until(next).saturating_sub(guard);
        let policy = Policy::new(manner.max_attempts, manner.interval, manner.timeout, deadline);
        let Outcome { result, attempts, failures } = policy
            .run(&mut self.jitter, FetchError::is_transient, |deadline| {
                fetch(&self.client, &self.target, deadline)
            })
            .await;
        for failure in &failures {
            *self.failures.entry(failure.reason()).or_default() += 1;
        }
        let result = result.and_then(|page| self.page.read(&page));
        if let Err(error) = &result {
            self.page.mark_all_gone();
            *self.failures.entry(error.reason()).or_default() += 1;
        }
        let took = start.elapsed();
        self.add_figures(&result, attempts, took);
        self.note(due, &result, failures.last(), attempts, took);
        if let Err(error) = self.page.stage.append(due).await {
            self.meters.append_failures.inc();
            warn!(scrape_target = %self.target.url, %error, "scraped samples were not taken by the store");
        }
        self.meters.seconds.with([]).observe(start.elapsed().as_secs_f64());
    }

    /// Ends every series of the target, which is gone.
    pub(crate) async fn end(mut self) {
        self.page.mark_all_gone();
        self.page.stage.end_own();
        if let Err(error) = self.page.stage.append(self.clock.now()).await {
            warn!(scrape_target = %self.target.url, %error, "the end of a target's series was not taken by the store");
        }
    }

    fn add_figures(
        &mut self,
        result: &Result<Findings, FetchError>,
        attempts: u32,
        took: Duration,
    ) {
        let (samples, malformed) = match result {
            Ok(found) => (found.samples, found.malformed_lines),
            Err(_) => (0, 0),
        };
        let refused = self.page.stage.take_refused();
        let stage = &mut self.page.stage;
        stage.push("up", &[], f64::from(u8::from(result.is_ok())));
        stage.push("scrape_duration_seconds", &[], took.as_secs_f64());
        stage.push("scrape_samples_scraped", &[], samples as f64);
        stage.push("scrape_malformed_lines", &[], malformed as f64);
        stage.push("scrape_refused_series", &[], refused as f64);
        stage.push("scrape_attempts", &[], f64::from(attempts));
        for (reason, count) in &self.failures {
            stage.push("scrape_failures_total", &[("reason", reason)], *count as f64);
        }
    }

    /// Tells people: the board always, the log when something changed.
    fn note(
        &self,
        due: Timestamp,
        result: &Result<Findings, FetchError>,
        earlier: Option<&FetchError>,
        attempts: u32,
        took: Duration,
    ) {
        let url = self.target.url.as_str();
        let mut status = self.place.status.lock();
        let was_up = status.up;
        (status.last_scrape, status.attempts, status.duration) = (Some(due), attempts, took);
        status.up = Some(result.is_ok());
        match result {
            Ok(found) => {
                self.meters.scrapes.with(["ok"]).inc();
                if was_up == Some(false) {
                    info!(scrape_target = url, attempts, "target is up again");
                }
                if found.malformed_lines > 0 && status.malformed_lines == 0 {
                    let first =
                        found.malformed.first().map(ToString::to_string).unwrap_or_default();
                    warn!(
                        scrape_target = url,
                        lines = found.malformed_lines,
                        first,
                        "page has malformed lines; the others were taken"
                    );
                }
                for (reason, count) in &found.reasons {
                    self.meters.malformed.with([reason.as_str()]).add(*count);
                }
                status.samples = found.samples;
                status.malformed_lines = found.malformed_lines;
                status.malformed.clone_from(&found.malformed);
                status.last_error = earlier.map(ToString::to_string);
            }
            Err(error) => {
                self.meters.scrapes.with([error.reason()]).inc();
                if was_up == Some(false) {
                    debug!(scrape_target = url, attempts, %error, "target is still down");
                } else {
                    warn!(scrape_target = url, attempts, reason = error.reason(), %error, "target is down");
                }
                status.samples = 0;
                status.last_error = Some(error.to_string());
            }
        }
    }
}

/// What a page held, besides the samples that were staged.
#[derive(Debug, Default)]
struct Findings {
    samples: usize,
    malformed_lines: usize,
    malformed: Vec<Malformed>,
    reasons: HashMap<Reason, u64>,
}

/// Reads pages of one target. Length and hash of each series' text on the last page are kept with its handle,
/// so that a page with the same series costs no allocation, no look-up, and no reading of labels. The hash is
/// keyed anew in each process: two texts of one length at one place agree in it with 1 chance in 2^64. A series
/// that is on the page no more gets a staleness mark.
#[derive(Debug)]
struct PageReader {
    stage: Stage,
    manner: Arc<Manner>,
    /// What the last page said of its metrics, in its order.
    said: Vec<Said>,
    hash: RandomState,
    /// The last page's series, in its order.
    last: Vec<Known>,
    /// Pages begun so far.
    pages: u64,
    /// Whether its pages end with a newline: then one that does not was cut.
    ends_with_newline: bool,
    /// Pages in a row that did not.
    open: u32,
}

/// After so many pages in a row without a newline at their end, theirs have none.
const OPEN: u32 = 5;

/// A `# TYPE`, `# UNIT` or `# HELP` line of the last page.
#[derive(Debug)]
struct Said {
    word: u8,
    metric: Box<str>,
    text: Box<str>,
}

/// A series of the last page.
#[derive(Debug)]
struct Known {
    text: Fingerprint,
    handle: Handle,
}

/// Length and hash of a text.
type Fingerprint = (u32, u64);

#[derive(Debug)]
struct Handle {
    /// `None` for one that the store refused.
    series: Option<Series>,
    /// Whether the page gave its sample a time: then the page alone says when it ends.
    timed: bool,
    /// The number of the page that it was first on.
    since: u64,
    /// The store had no room for it: it is asked again at each page.
    refused: bool,
}

/// Series of the last page that are not yet found on this one, by their text.
type Elsewhere = HashMap<Fingerprint, Handle>;

impl PageReader {
    fn new(stage: Stage, manner: &Arc<Manner>) -> Self {
        let (last, said, pages, ends_with_newline, open) = (Vec::new(), Vec::new(), 0, false, 0);
        let (manner, hash) = (Arc::clone(manner), RandomState::new());
        Self { stage, manner, said, hash, last, pages, ends_with_newline, open }
    }

    fn fingerprint(hash: &RandomState, text: &[u8]) -> Fingerprint {
        (u32::try_from(text.len()).unwrap_or(u32::MAX), hash.hash_one(text))
    }

    /// The next line, and whether it is of the series that was at place `at` on the last page.
    fn next_line<'a>(
        &self,
        parser: &mut Parser<'a>,
        at: usize,
    ) -> Option<Result<(Line<'a>, bool), Malformed>> {
        if let Some(known) = self.last.get(at).filter(|known| !known.handle.refused) {
            let is_known = |text: &[u8]| Self::fingerprint(&self.hash, text) == known.text;
            if let Some(sample) = parser.next_known(known.text.0 as usize, is_known) {
                return Some(Ok((Line::Sample(sample), true)));
            }
        }
        parser.next_line().map(|line| line.map(|line| (line, false)))
    }

    fn read(&mut self, page: &Page) -> Result<Findings, FetchError> {
        let mut parser = Parser::new(&page.body, page.dialect);
        let mut found = Findings::default();
        self.pages += 1;
        let start = self.stage.len();
        let (mut at, mut said) = (0, 0);
        let mut elsewhere: Option<Elsewhere> = None;
        while let Some(line) = self.next_line(&mut parser, at) {
            let (sample, in_place) = match line {
                Ok((Line::Sample(sample), in_place)) => (sample, in_place),
                Ok((info, _)) => {
                    if said < self.manner.max_samples {
                        self.note_said(said, &info, page.dialect);
                        said += 1;
                    }
                    continue;
                }
                Err(malformed) => {
                    found.add(malformed);
                    continue;
                }
            };
            // In OpenMetrics `# EOF` comes after the last sample.
            let must_end = self.ends_with_newline || page.dialect == Dialect::OpenMetrics;
            if !sample.terminated && must_end {
                let excerpt = sample.series.chars().take(80).collect();
                let line = parser.line_number();
                found.add(Malformed { line, reason: Reason::CutPage, excerpt });
                continue;
            }
            if found.samples == self.manner.max_samples {
                self.stage.truncate(start);
                // Only what an earlier page had stays known, to be marked as gone.
                self.last.retain(|known| known.handle.since < self.pages);
                let rest = elsewhere.into_iter().flatten();
                self.last.extend(rest.map(|(text, handle)| Known { text, handle }));
                return Err(FetchError::TooManySamples(self.manner.max_samples));
            }
            found.samples += 1;
            let time = sample.time.filter(|_| self.manner.honor_timestamps);
            let timed = time.is_some();
            let text = || Self::fingerprint(&self.hash, sample.series.as_bytes());
            let in_place = in_place || self.last.get(at).is_some_and(|known| known.text == text());
            match self.last.get_mut(at) {
                Some(known) if in_place && !known.handle.refused => known.handle.timed = timed,
                Some(_) if in_place => self.ask_again(at, timed, &parser),
                _ => {
                    // From here on this page differs from the last: find its series by their text.
                    let text = text();
                    let known = elsewhere.get_or_insert_with(|| self.drain(at)).remove(&text);
                    let known = known.filter(|known| !known.refused);
                    let mut handle = known.unwrap_or_else(|| self.meet(&parser));
                    handle.timed = timed;
                    self.last.insert(at, Known { text, handle });
                }
            }
            if let Some(Handle { series: Some(series), .. }) =
                self.last.get(at).map(|known| &known.handle)
            {
                self.stage.push_series(series.clone(), sample.value, time);
            }
            at += 1;
        }
        self.said.truncate(said);
        let mut gone = self.drain(at);
        gone.extend(elsewhere.into_iter().flatten());
        self.mark_gone(start, gone);
        self.note_end(&page.body);
        Ok(found)
    }

    /// A page that was cut says nothing of how whole ones end; so many in a row do.
    fn note_end(&mut self, body: &[u8]) {
        if body.ends_with(b"\n") {
            (self.ends_with_newline, self.open) = (true, 0);
        } else if !body.is_empty() {
            self.open += 1;
            self.ends_with_newline &= self.open < OPEN;
        }
    }

    /// Asks the store again for a series that it had no room for.
    fn ask_again(&mut self, at: usize, timed: bool, parser: &Parser<'_>) {
        let new = self.meet(parser);
        if let Some(known) = self.last.get_mut(at) {
            known.handle = Handle { timed, since: known.handle.since, ..new };
        }
    }

    /// The handle of a series that was not on the last page.
    fn meet(&mut self, parser: &Parser<'_>) -> Handle {
        let Manner { honor_labels, metric_relabel, .. } = &*self.manner;
        let before = self.stage.refused();
        let series = self.stage.admit(&parser.key(), *honor_labels, metric_relabel);
        let refused = self.stage.refused() > before;
        Handle { series, timed: false, since: self.pages, refused }
    }

    /// Stages what the `at`-th line of its kind says, if the last page said something else there.
    fn note_said(&mut self, at: usize, line: &Line<'_>, dialect: Dialect) {
        let (word, metric, text) = match *line {
            Line::Type(metric, kind) => (b't', metric, kind.as_str()),
            Line::Unit(metric, unit) => (b'u', metric, unit),
            Line::Help(metric, help) => (b'h', metric, help),
            Line::Sample(_) => return,
        };
        if self
            .said
            .get(at)
            .is_some_and(|it| it.word == word && *it.metric == *metric && *it.text == *text)
        {
            return;
        }
        let fresh = Said { word, metric: metric.into(), text: text.into() };
        match self.said.get_mut(at) {
            Some(said) => *said = fresh,
            None => self.said.push(fresh),
        }
        self.stage.describe(metric, |info| match *line {
            Line::Type(_, kind) => info.kind = kind,
            Line::Unit(_, unit) => info.unit = unit.into(),
            Line::Help(_, help) => info.help = unescape(help).into(),
            Line::Sample(_) => {}
        });
        // In OpenMetrics the samples of counter `x` are named `x_total`; that is the table people look for.
        if dialect == Dialect::OpenMetrics && matches!(line, Line::Type(_, MetricKind::Counter)) {
            let table = format!("{metric}_total");
            self.stage.describe(&table, |info| info.kind = MetricKind::Counter);
        }
    }

    fn drain(&mut self, at: usize) -> Elsewhere {
        let rest = self.last.drain(at.min(self.last.len())..);
        rest.map(|known| (known.text, known.handle)).collect()
    }

    /// Stages a staleness mark for each series of the last page.
    fn mark_all_gone(&mut self) {
        let gone = self.drain(0);
        let start = self.stage.len();
        self.mark_gone(start, gone);
    }

    /// Stages a staleness mark for each of `gone`, unless a row from `start` on is of the same series.
    fn mark_gone(&mut self, start: usize, gone: Elsewhere) {
        if gone.is_empty() {
            return;
        }
        let here: HashSet<u64> =
            self.stage.series().get(start..).unwrap_or_default().iter().map(Series::id).collect();
        for Handle { series, timed, .. } in gone.into_values() {
            let Some(series) = series.filter(|series| !timed && !here.contains(&series.id()))
            else {
                continue;
            };
            self.stage.push_series(series, f64::from_bits(STALE_BITS), None);
        }
    }
}

impl Findings {
    fn add(&mut self, malformed: Malformed) {
        self.malformed_lines += 1;
        *self.reasons.entry(malformed.reason).or_default() += 1;
        if self.malformed.len() < SHOWN {
            self.malformed.push(malformed);
        }
    }
}

#[cfg(test)]
mod tests;
