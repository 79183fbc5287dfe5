//! Targets from name servers, with the meta labels of Prometheus' `dns_sd`.

use super::{Found as Target, found};
use crate::config::{DnsKind, DnsSdConfig};
use platform::dns::{Found, Question, Resolver};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::warn;

/// Names that are asked for again and again.
#[derive(Debug)]
pub(super) struct DnsSource {
    config: DnsSdConfig,
    resolver: Resolver,
    names: BTreeMap<String, Vec<Target>>,
    all: Vec<Target>,
    looked: Option<Instant>,
}

impl DnsSource {
    pub(super) fn new(config: &DnsSdConfig) -> Self {
        let resolver = Resolver::new(config.nameserver);
        let (names, all) = (BTreeMap::new(), Vec::new());
        Self { config: config.clone(), resolver, names, all, looked: None }
    }

    pub(super) fn refresh(&self) -> Duration {
        self.config.refresh_interval
    }

    /// What the names stand for now. One that nobody answers for keeps what it stood for.
    pub(super) async fn look(&mut self) -> &[Target] {
        let question = match self.config.kind {
            DnsKind::A => Question::A,
            DnsKind::Aaaa => Question::Aaaa,
            DnsKind::Srv => Question::Srv,
        };
        if self.looked.is_some_and(|at| at.elapsed() < self.config.refresh_interval) {
            return &self.all;
        }
        let mut asking = JoinSet::new();
        for name in self.config.names.clone() {
            let resolver = self.resolver.clone();
            asking.spawn(async move {
                let answers = resolver.ask(&name, question).await;
                (name, answers)
            });
        }
        while let Some(Ok((name, answers))) = asking.join_next().await {
            match answers {
                Ok(answers) => {
                    let targets =
                        answers.iter().map(|answer| target(&name, answer, self.config.port));
                    self.names.insert(name.clone(), targets.collect());
                }
                Err(error) => {
                    warn!(name, %error, "targets could not be looked up; those found before stay");
                }
            }
        }
        self.looked = Some(Instant::now());
        self.all = self.names.values().flatten().cloned().collect();
        &self.all
    }
}

fn target(name: &str, answer: &Found, port: Option<u16>) -> Target {
    match answer {
        Found::Address(address) => {
            let socket = std::net::SocketAddr::new(*address, port.unwrap_or(80));
            found(&socket.to_string(), [("__meta_dns_name", name)])
        }
        Found::Service(host, port) => found(
            &format!("{host}:{port}"),
            [
                ("__meta_dns_name", name),
                ("__meta_dns_srv_record_target", host),
                ("__meta_dns_srv_record_port", &port.to_string()),
            ],
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use tokio::net::UdpSocket;

    /// A name server that knows `hosts.test` (two addresses) and `_m._tcp.test` (one service), until dropped.
    async fn name_server() -> (SocketAddr, tokio::task::JoinHandle<()>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let serve = async move {
            let mut query = [0; 512];
            while let Ok((len, client)) = socket.recv_from(&mut query).await {
                let end = 12 + query[12..len].iter().position(|byte| *byte == 0).unwrap() + 5;
                let question = &query[12..end];
                let record = |kind: u8, data: &[u8]| {
                    let mut record = vec![0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 0, 0, data.len() as u8];
                    record.extend_from_slice(data);
                    record
                };
                let answers = match question {
                    q if q.starts_with(b"\x05hosts\x04test\0\0\x01") => {
                        vec![record(1, &[10, 0, 0, 2]), record(1, &[10, 0, 0, 1])]
                    }
                    q if q.starts_with(b"\x02_m\x04_tcp\x04test\0\0\x21") => {
                        vec![record(33, b"\0\x01\0\x01\x23\x82\x04node\x04test\0")]
                    }
                    _ => Vec::new(),
                };
                let code = if answers.is_empty() { 0x83 } else { 0x80 };
                let mut answer = query[..2].to_vec();
                answer.extend([0x85, code, 0, 1, 0, answers.len() as u8, 0, 0, 0, 0]);
                answer.extend_from_slice(question);
                answers.iter().for_each(|record| answer.extend_from_slice(record));
                socket.send_to(&answer, client).await.unwrap();
            }
        };
        (address, tokio::spawn(serve))
    }

    fn shown(found: &[Target]) -> Vec<String> {
        let pair = |(name, value): (&String, &String)| format!("{name}={value}");
        found.iter().map(|it| it.iter().map(pair).collect::<Vec<_>>().join(" ")).collect()
    }

    #[tokio::test]
    async fn names_become_targets_and_stay_while_nobody_answers() {
        let (nameserver, server) = name_server().await;
        let config = |names: &[&str], kind, port| DnsSdConfig {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            kind,
            port,
            refresh_interval: Duration::from_secs(1),
            nameserver: Some(nameserver),
        };
        let mut services =
            DnsSource::new(&config(&["_m._tcp.test.", "nobody.test."], DnsKind::Srv, None));
        let service = [
            "__address__=node.test:9090 __meta_dns_name=_m._tcp.test. __meta_dns_srv_record_port=9090 \
             __meta_dns_srv_record_target=node.test",
        ];
        assert_eq!(shown(services.look().await), service, "the other name has none");
        services.names.insert("nobody.test.".to_owned(), vec![found("gone:1", [])]);
        services.looked = None;
        assert_eq!(shown(services.look().await), service, "a name without services has no targets");
        let mut hosts = DnsSource::new(&config(&["hosts.test."], DnsKind::A, Some(9100)));
        let both = [
            "__address__=10.0.0.1:9100 __meta_dns_name=hosts.test.",
            "__address__=10.0.0.2:9100 __meta_dns_name=hosts.test.",
        ];
        assert_eq!(shown(hosts.look().await), both);
        server.abort();
        let _ = server.await;
        hosts.looked = None;
        assert_eq!(shown(hosts.look().await), both, "nobody answers");
    }
}
