//! The gateway process.

use super::serving::{expose_process, tell_ready};
use super::{block_on, stop_on_request};
use crate::cli::GatewayArgs;
use crate::config::Config;
use crate::exit::{self, Failure};
use runtime::Clock;
use serde_json::json;
use telemetry::Registry;
use tracing::warn;

pub(crate) fn run(GatewayArgs { role: args, env }: GatewayArgs) -> Result<(), Failure> {
    let config = Config::load_or_default(args.config.as_deref())?;
    telemetry::trace::start("info");
    block_on(async {
        let stop = stop_on_request(args.with_parent);
        let registry = Registry::new();
        expose_process(&registry, "gateway");
        let ready = |addresses: gateway::Addresses| {
            let addresses = json!({
                "data": addresses.data.to_string(),
                "control": addresses.control.to_string(),
            });
            if let Err(failure) = tell_ready(args.ready_file.as_deref(), &addresses) {
                warn!(error = %failure.error, "ready file could not be written");
            }
        };
        let outcome =
            gateway::run(config.gateway, env, Clock::system(), registry, stop, ready).await;
        outcome.map_err(exit::with(exit::UNAVAILABLE))
    })
}
