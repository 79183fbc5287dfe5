//! Mail by SMTP: plain text and HTML, the series as an image, one thread for each group.

use super::text::{Links, html, plain, shown_alerts, subject};
use super::{Entry, Refused, plot};
use crate::AlertsError;
use crate::book::Alert;
use crate::config::{EmailConfig, Security};
use crate::expr::source::Source;
use crate::expr::{Matcher, Selector, Test};
use crate::secret;
use lettre::address::Envelope;
use lettre::message::header::ContentType;
use lettre::message::{Attachment, Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::response::Response;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use model::Timestamp;
use runtime::Clock;
use std::time::Duration;
use tracing::warn;

/// A receiver by mail.
#[derive(Debug)]
pub(crate) struct Email {
    config: EmailConfig,
    from: Mailbox,
    to: Vec<Mailbox>,
    links: Links,
    source: Source,
    clock: Clock,
}

/// Series drawn in one mail.
const PLOTS: usize = 3;
/// Before now, on the image.
const SPAN: Duration = Duration::from_secs(3_600);

impl Email {
    pub(crate) fn new(
        config: EmailConfig,
        links: Links,
        source: Source,
        clock: Clock,
    ) -> Result<Self, AlertsError> {
        let address = |text: &String| {
            text.parse::<Mailbox>().map_err(|error| {
                AlertsError::Setting(format!("{text:?} is no mail address: {error}"))
            })
        };
        let from = address(&config.from)?;
        let to = config.to.iter().map(address).collect::<Result<_, _>>()?;
        Ok(Self { config, from, to, links, source, clock })
    }

    pub(crate) fn per_minute(&self) -> usize {
        self.config.max_per_minute
    }

    /// Whether all that it needs can be read now.
    pub(crate) fn ready(&self) -> Result<(), String> {
        self.transport().map(drop)
    }

    /// Sends all as one mail.
    pub(crate) async fn send(&self, entries: &[Entry]) -> Result<(), Refused> {
        let broken = |why: String| Refused { why, for_good: false, after: None };
        let message = self.message(entries).await.map_err(broken)?;
        let transport = self.transport().map_err(broken)?;
        let sent = tokio::time::timeout(self.config.timeout, transport.send(message.clone())).await;
        let sent = match sent {
            Ok(Err(refused)) if refused.is_permanent() && self.to.len() > 1 => {
                Ok(self.to_each(&transport, &message).await.ok_or(refused))
            }
            sent => sent,
        };
        match sent {
            Err(_) => Err(broken(format!(
                "no answer of the mail server within {:?}",
                self.config.timeout
            ))),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                let mut why = error.to_string();
                if let Some(cause) = std::error::Error::source(&error).map(ToString::to_string)
                    && !why.contains(&cause)
                {
                    why = format!("{why}: {cause}");
                }
                // A server that refuses an address or a password may be mended by people: tried until given up.
                Err(Refused {
                    why,
                    for_good: false,
                    after: error.is_permanent().then_some(Duration::from_secs(30)),
                })
            }
        }
    }

    /// To each alone, where the server refuses all at once for good: one bad address must not keep the others from hearing. The last
    /// answer of those that were taken.
    async fn to_each(
        &self,
        transport: &AsyncSmtpTransport<Tokio1Executor>,
        message: &Message,
    ) -> Option<Response> {
        let bytes = message.formatted();
        let mut taken = None;
        for to in &self.to {
            let one = vec![to.email.clone()];
            let envelope = Envelope::new(Some(self.from.email.clone()), one);
            let Ok(envelope) = envelope else { continue };
            let sending = transport.send_raw(&envelope, &bytes);
            match tokio::time::timeout(self.config.timeout, sending).await {
                Ok(Ok(answer)) => taken = Some(answer),
                Ok(Err(error)) => {
                    warn!(to = %to.email, %error, "the mail server does not take this address");
                }
                Err(_) => warn!(to = %to.email, "the mail server did not answer in time"),
            }
        }
        taken
    }

    fn transport(&self) -> Result<AsyncSmtpTransport<Tokio1Executor>, String> {
        let config = &self.config;
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&config.host)
            .port(config.port)
            .timeout(Some(config.timeout));
        if config.security != Security::None {
            let mut tls = TlsParameters::builder(config.host.clone());
            if let Some(file) = &config.ca_file {
                let fault =
                    |error: String| format!("{} could not be used: {error}", file.display());
                let bytes = std::fs::read(file).map_err(|error| fault(error.to_string()))?;
                let authority =
                    Certificate::from_pem(&bytes).map_err(|error| fault(error.to_string()))?;
                tls = tls.add_root_certificate(authority);
            }
            let tls = tls.build().map_err(|error| error.to_string())?;
            builder = builder.tls(match config.security {
                Security::Tls => Tls::Wrapper(tls),
                _ => Tls::Required(tls),
            });
        }
        let password = secret::read(
            "password",
            None,
            config.password_file.as_deref(),
            config.password_env.as_deref(),
        )?;
        if let (Some(user), Some(password)) = (&config.username, password) {
            builder = builder.credentials(Credentials::new(user.clone(), password));
        }
        Ok(builder.build())
    }

    async fn message(&self, entries: &[Entry]) -> Result<Message, String> {
        let first = entries.first().ok_or("nothing to say")?;
        let now = self.clock.now();
        let plots = self.plots(entries, now).await;
        let named: Vec<(String, String)> =
            plots.iter().map(|it| (it.id.clone(), it.of.clone())).collect();
        let mut related = MultiPart::related().singlepart(SinglePart::html(html(
            entries,
            &self.links,
            &named,
            now,
        )));
        for plot in plots {
            let kind = ContentType::parse("image/png").map_err(|error| error.to_string())?;
            related = related.singlepart(Attachment::new_inline(plot.id).body(plot.png, kind));
        }
        let body = MultiPart::alternative()
            .singlepart(SinglePart::plain(plain(entries, &self.links, now)))
            .multipart(related);
        // Mails of one group follow each other in one thread, whose root nobody needs to have.
        let domain = self.from.email.domain();
        let key = entries.iter().map(|it| it.key.as_str()).collect::<Vec<_>>().join("+");
        let key = key.get(..200).unwrap_or(&key);
        let root =
            format!("<{:016x}@{domain}>", twox_hash::XxHash3_64::oneshot(first.group.as_bytes()));
        let mut builder = Message::builder()
            .from(self.from.clone())
            .message_id(Some(format!("<{key}@{domain}>")))
            .in_reply_to(root.clone())
            .references(root)
            .subject(subject(entries))
            .date(std::time::UNIX_EPOCH + Duration::from_millis(now.millis().max(0) as u64));
        for to in &self.to {
            builder = builder.to(to.clone());
        }
        builder.multipart(body).map_err(|error| error.to_string())
    }

    async fn plots(&self, entries: &[Entry], now: Timestamp) -> Vec<Plot> {
        let wanted: Vec<Alert> = shown_alerts(entries).take(PLOTS).cloned().collect();
        let source = self.source.clone();
        let drawn = tokio::task::spawn_blocking(move || {
            let plots = wanted.iter().filter_map(|alert| draw(alert, &source, now));
            plots.collect()
        });
        drawn.await.unwrap_or_default()
    }
}

struct Plot {
    id: String,
    /// The fingerprint of its alert.
    of: String,
    png: Vec<u8>,
}

/// The first series of an alert's condition that has its labels.
fn draw(alert: &Alert, source: &Source, now: Timestamp) -> Option<Plot> {
    let metric = match alert.labels.get("metric").filter(|_| alert.finding.is_some()) {
        Some(metric) => metric.clone(),
        None => {
            let expr = crate::expr::parse::parse(&alert.query).ok()?;
            expr.selectors().first()?.metric.clone()
        }
    };
    let own = ["alertname", "severity", "metric", "kind"];
    let labels = alert.labels.iter().filter(|(name, _)| !own.contains(&name.as_str()));
    let matchers = labels
        .map(|(label, value)| Matcher { label: label.clone(), test: Test::Is(value.clone()) });
    let selector = Selector { metric, matchers: matchers.collect(), offset: Duration::ZERO, at: 0 };
    let (from, to) = (now.minus(SPAN).millis(), now.millis());
    let mut points = source.range(&selector, from, to).ok()?.into_iter().next()?.1;
    points.drop_stale();
    let png = plot::plot(&points, (from, to), alert.standing.since.millis())?;
    Some(Plot { id: format!("plot-{}", alert.fingerprint), of: alert.fingerprint.clone(), png })
}
