//! From host and path to what is meant. What is not known is refused, with the reason.

use crate::config::RouteConfig;
use crate::meters::{Meters, RouteMeter};
use crate::upstream::tool::Tool;
use http::Uri;
use std::sync::Arc;

/// What a request means.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
    /// One of the gateway's own calls.
    Api(Api),
    /// A tool and one of its actions, by their places.
    Action(usize, usize),
    /// A tool, the action that must be granted, and the path and query there.
    Pass { tool: usize, action: Arc<str>, meter: usize, to: Uri, audit: bool },
    /// How the gateway is; answered whatever the load.
    Own,
    /// None of these.
    Unknown(&'static str),
}

/// The gateway's own calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Api {
    CreateAgent,
    GenerateToken,
    ProxyRequest,
    Policies,
    Policy,
    Chaos,
}

const APIS: [(Api, &str); 6] = [
    (Api::CreateAgent, "/api/create-agent"),
    (Api::GenerateToken, "/api/generate-token"),
    (Api::ProxyRequest, "/api/proxy-request"),
    (Api::Policies, "/api/policies"),
    (Api::Policy, "/api/policies/{id}"),
    (Api::Chaos, "/api/admin/chaos"),
];

/// A configured route, its tool, and the action that it needs.
#[derive(Debug)]
struct Route {
    config: RouteConfig,
    tool: usize,
    action: Arc<str>,
}

/// All that can be meant, with the series of each.
#[derive(Debug)]
pub(crate) struct Targets {
    pub(crate) tools: Vec<Arc<Tool>>,
    routes: Vec<Route>,
    /// The action of what is passed on without a route.
    proxy: Arc<str>,
    passed: Vec<RouteMeter>,
    apis: [RouteMeter; APIS.len()],
    own: RouteMeter,
    unknown: RouteMeter,
}

impl Targets {
    pub(crate) fn new(tools: Vec<Arc<Tool>>, routes: &[RouteConfig], meters: &Meters) -> Self {
        let mut routes: Vec<Route> = routes
            .iter()
            .filter_map(|route| {
                let tool = tools.iter().position(|tool| tool.config.name == route.tool)?;
                Some(Route { config: route.clone(), tool, action: route.action.as_str().into() })
            })
            .collect();
        // The longest that fits counts, one with a host before one without.
        routes.sort_by_key(|route| {
            (std::cmp::Reverse(route.config.path.len()), route.config.host.is_none())
        });
        let of_tools = tools.iter().map(|tool| meters.route(&format!("/t/{}/*", tool.config.name)));
        let of_routes = routes.iter().map(|route| meters.route(&route.config.path));
        Self {
            passed: of_tools.chain(of_routes).collect(),
            apis: APIS.map(|(_, name)| meters.route(name)),
            proxy: "proxy".into(),
            own: meters.route("own"),
            unknown: meters.route("unknown"),
            tools,
            routes,
        }
    }

    /// The series of a target.
    pub(crate) fn meter<'a>(&'a self, target: &Target) -> &'a RouteMeter {
        let found = match target {
            Target::Api(api) => self.apis.get(*api as usize),
            Target::Action(tool, action) => self
                .tools
                .get(*tool)
                .and_then(|tool| tool.actions.get(*action))
                .map(|action| &action.meter),
            Target::Pass { meter, .. } => self.passed.get(*meter),
            Target::Own => Some(&self.own),
            Target::Unknown(_) => None,
        };
        found.unwrap_or(&self.unknown)
    }

    /// What is meant.
    pub(crate) fn find(&self, uri: &Uri, host: Option<&str>) -> Target {
        let path = uri.path();
        if is_ambiguous(path) {
            return Target::Unknown(
                "the path can be read in two ways: no . or .. or empty parts, no \\, and nothing encoded that need not be",
            );
        }
        if let Some(rest) = path.strip_prefix("/t/") {
            return self.tool(rest, uri);
        }
        match path {
            "/health" | "/ready" | "/live" | "/metrics" => return Target::Own,
            "/api/policies" | "/api/policies/" => return Target::Api(Api::Policies),
            _ if path.starts_with("/api/policies/") => return Target::Api(Api::Policy),
            _ if path == "/api/admin/chaos" || path.starts_with("/api/admin/chaos/") => {
                return Target::Api(Api::Chaos);
            }
            _ => {}
        }
        if let Some((api, _)) = APIS.iter().find(|(_, known)| *known == path) {
            return Target::Api(*api);
        }
        self.route(uri, host).unwrap_or(Target::Unknown("nothing is configured for this path"))
    }

    /// `/t/{tool}/{action}`, or anything behind `/t/{tool}/` of a tool that has a place to pass it on to.
    fn tool(&self, rest: &str, uri: &Uri) -> Target {
        let Some((name, action)) = rest.split_once('/') else {
            return Target::Unknown("the path is not /t/{tool}/{action}");
        };
        let Some(at) = self.tools.iter().position(|tool| tool.config.name == name) else {
            return Target::Unknown("no such tool");
        };
        let tool = self.tools.get(at);
        if let Some((action, _)) = tool.and_then(|tool| tool.action(action)) {
            return Target::Action(at, action);
        }
        // What is behind an action is no other way to it.
        let first = action.split('/').next().unwrap_or_default();
        if tool.is_some_and(|tool| tool.action(first).is_some()) {
            return Target::Unknown("nothing is behind an action");
        }
        let tool = tool.filter(|tool| tool.links.is_some());
        match tool.and_then(|tool| join(&tool.prefix, &format!("/{action}"), uri)) {
            Some(to) => {
                let action = Arc::clone(&self.proxy);
                Target::Pass { tool: at, action, meter: at, to, audit: true }
            }
            None => Target::Unknown("the tool has no such action"),
        }
    }

    fn route(&self, uri: &Uri, host: Option<&str>) -> Option<Target> {
        let path = uri.path();
        let host = host.map(|host| host.rsplit_once(':').map_or(host, |(name, _)| name));
        let at = self.routes.iter().position(|Route { config, .. }| {
            let fits = config
                .host
                .as_ref()
                .is_none_or(|wanted| host.is_some_and(|host| host.eq_ignore_ascii_case(wanted)));
            let rest = path.strip_prefix(&config.path);
            let whole =
                |rest: &str| config.path.ends_with('/') || rest.is_empty() || rest.starts_with('/');
            fits && rest.is_some_and(whole)
        })?;
        let Route { config, tool, action } = self.routes.get(at)?;
        let rest = match config.strip {
            true => path.strip_prefix(config.path.trim_end_matches('/')).unwrap_or(path),
            false => path,
        };
        Some(Target::Pass {
            tool: *tool,
            action: Arc::clone(action),
            meter: self.tools.len() + at,
            to: join(&self.tools.get(*tool)?.prefix, rest, uri)?,
            audit: config.audit,
        })
    }
}

/// `path` behind `prefix`, with the query of `uri`.
fn join(prefix: &str, path: &str, uri: &Uri) -> Option<Uri> {
    if prefix.is_empty() && path == uri.path() {
        return uri.path_and_query().cloned().map(Uri::from);
    }
    let query = uri.query();
    let mark = if query.is_some() { "?" } else { "" };
    let slash = if path.starts_with('/') { "" } else { "/" };
    format!("{prefix}{slash}{path}{mark}{}", query.unwrap_or_default()).parse().ok()
}

/// What one reader of paths takes for another path than the next one does: `.` and `..`, empty parts, a backslash, and encoded letters,
/// slashes or percent signs. Behind a prefix it would lead elsewhere than what was granted.
fn is_ambiguous(path: &str) -> bool {
    // Most paths have nothing of it: one look tells.
    if !path.bytes().any(|byte| b"%\\.".contains(&byte)) && !path.contains("//") {
        return false;
    }
    let parts = path.strip_prefix('/').unwrap_or(path);
    let last = parts.split('/').count();
    let empty = parts.split('/').enumerate().any(|(n, part)| part.is_empty() && n + 1 < last);
    let dots = parts.split('/').any(|part| {
        let name = part.split(';').next().unwrap_or_default();
        name == "." || name == ".."
    });
    let encoded = path.match_indices('%').any(|(at, _)| {
        let byte = path.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        byte.is_none_or(|byte| byte.is_ascii_alphanumeric() || b"-._~/\\%\0".contains(&byte))
    });
    empty || dots || encoded || path.contains('\\')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GatewayConfig;
    use telemetry::Registry;

    fn targets() -> Targets {
        let config: GatewayConfig = serde_json::from_value(serde_json::json!({
            "tool": [
                { "name": "mock", "actions": ["search"] },
                { "name": "live", "actions": ["get"], "base_url": "http://127.0.0.1:9/v1" },
            ],
            "route": [
                { "path": "/files/", "tool": "live", "strip": true },
                { "path": "/files/old/", "tool": "live", "action": "old" },
                { "path": "/", "host": "live.example", "tool": "live" },
            ],
        }))
        .unwrap();
        assert_eq!(config.faults(), [""; 0]);
        let registry = Registry::new();
        let meters = Meters::new(&registry);
        let tool = |it| Tool::new(it, &config.admission, None, (&meters, &registry)).unwrap();
        Targets::new(config.tool.iter().map(tool).collect(), &config.route, &meters)
    }

    #[tokio::test]
    async fn paths_and_hosts_lead_to_what_is_configured_and_nowhere_else() {
        let targets = targets();
        let found = |path: &str, host| match targets.find(&path.parse().unwrap(), host) {
            Target::Pass { action, to, .. } => format!("{action} {to}"),
            other => format!("{other:?}"),
        };
        assert_eq!(found("/t/mock/search", None), "Action(0, 0)");
        assert_eq!(found("/t/live/get?x=1", None), "Action(1, 0)");
        assert_eq!(found("/t/live/a/b?x=1", None), "proxy /v1/a/b?x=1");
        assert_eq!(found("/files/a.txt?v=2", None), "proxy /v1/a.txt?v=2");
        assert_eq!(found("/files/old/b", None), "old /v1/files/old/b");
        assert_eq!(found("/any", Some("LIVE.example:80")), "proxy /v1/any");
        assert_eq!(found("/api/policies/17", None), "Api(Policy)");
        assert_eq!(found("/health", Some("live.example")), "Own");
        for path in ["/", "/any", "/t", "/t/", "/t/mock", "/t/mock/", "/t/mock/x", "/t/x/search"] {
            assert!(found(path, None).starts_with("Unknown"), "{path}");
        }
        for path in [
            "/files/../etc",
            "/files/%2e%2E/etc",
            "/files/a%2f..%2fb",
            "/files/./a",
            "/files/..",
            "/files/%6fld/x",
            "/files//old/x",
            "/files/..\\x",
            "/files/%5c",
            "/files/%252e",
            "/files/..;x/a",
            "/t/live/%67et",
            "/files/%",
            "/files/%2",
        ] {
            assert!(
                found(path, None).contains("read in two ways"),
                "{path}: {}",
                found(path, None)
            );
        }
        for path in ["/t/live/get/", "/t/live/get/x", "/filesystem"] {
            assert!(found(path, None).starts_with("Unknown"), "{path}");
        }
        assert!(found("/files/a%20b/", None).starts_with("proxy"));
        assert!(found("/files/a..b", None).starts_with("proxy"));
    }
}
