//! From path to tool and action. What is not known is denied, with the reason.

use crate::config::ToolConfig;

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Route<'a> {
    /// A tool and one of its actions.
    Tool(&'a ToolConfig, &'a str),
    /// A path that begins like a tool's but names none.
    Unknown(&'static str),
}

impl Route<'_> {
    /// The route's name in metrics: from a closed set, whatever the path.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Tool(tool, action) => format!("/t/{}/{action}", tool.name),
            Self::Unknown(_) => "unknown".to_owned(),
        }
    }
}

/// The route of `path`, `/t/{tool}/{action}`.
pub(crate) fn find<'a>(tools: &'a [ToolConfig], path: &str) -> Route<'a> {
    let Some((name, action)) = path.strip_prefix("/t/").and_then(|rest| rest.split_once('/'))
    else {
        return Route::Unknown("the path is not /t/{tool}/{action}");
    };
    let Some(tool) = tools.iter().find(|tool| tool.name == name) else {
        return Route::Unknown("no such tool");
    };
    match tool.actions.iter().find(|known| *known == action) {
        Some(action) => Route::Tool(tool, action),
        None => Route::Unknown("the tool has no such action"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GatewayConfig;

    #[test]
    fn only_configured_tools_and_actions_have_a_route() {
        let tools = GatewayConfig::default().tool;
        let name = |path: &str| find(&tools, path).name();
        assert_eq!(name("/t/serpapi/search"), "/t/serpapi/search");
        for path in
            ["/", "/t", "/t/", "/t/serpapi", "/t/serpapi/", "/t/serpapi/search/x", "/t/x/search"]
        {
            assert_eq!(name(path), "unknown", "{path}");
        }
    }
}
