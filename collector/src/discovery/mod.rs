//! Which addresses there are to scrape: those of the configuration, of files, and of name servers. Each
//! source keeps what it found last while it cannot find anything new.

mod dns;
mod file;

use crate::config::ScrapeConfig;
use crate::relabel::Pairs;
use dns::DnsSource;
use file::FileSource;
use std::collections::BTreeSet;
use std::time::Duration;
use tracing::warn;

/// Targets of one job; further ones are left out, and told of.
const MOST: usize = 20_000;

/// An address and what is known of it, as labels that begin with two underscores and go before scraping.
pub(crate) type Found = Pairs;

/// All sources of one job.
#[derive(Debug)]
pub(crate) struct Discovery {
    fixed: Vec<Found>,
    files: Vec<FileSource>,
    names: Vec<DnsSource>,
    refresh: Duration,
    /// Targets left out at the last look.
    left_out: usize,
}

impl Discovery {
    pub(crate) fn new(scrape: &ScrapeConfig) -> Self {
        let fixed = scrape.targets.iter().map(|address| found(address, [])).collect();
        let files: Vec<FileSource> = scrape.file_sd_configs.iter().map(FileSource::new).collect();
        let names: Vec<DnsSource> = scrape.dns_sd_configs.iter().map(DnsSource::new).collect();
        let refresh =
            files.iter().map(FileSource::refresh).chain(names.iter().map(DnsSource::refresh));
        let refresh = refresh.min().unwrap_or(Duration::MAX);
        Self { fixed, files, names, refresh, left_out: 0 }
    }

    /// Between two looks; `None` when there is nothing to look for.
    pub(crate) fn refresh(&self) -> Option<Duration> {
        (self.refresh < Duration::MAX).then_some(self.refresh)
    }

    /// All that there is now, each once.
    pub(crate) async fn look(&mut self) -> BTreeSet<Found> {
        let mut all: BTreeSet<Found> = self.fixed.iter().cloned().collect();
        for source in &mut self.files {
            all.extend(source.look().iter().cloned());
        }
        for source in &mut self.names {
            all.extend(source.look().await.iter().cloned());
        }
        let left_out = all.len().saturating_sub(MOST);
        if left_out > 0 && left_out != self.left_out {
            warn!(
                left_out,
                limit = MOST,
                "more targets than a job may have; split it into several"
            );
        }
        self.left_out = left_out;
        all.into_iter().take(MOST).collect()
    }
}

fn found<'a>(address: &'a str, labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Found {
    let own = [("__address__", address)];
    let pairs = own.into_iter().chain(labels);
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
