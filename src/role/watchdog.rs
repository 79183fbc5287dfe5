//! The watchdog process.

use super::{block_on, stop_on_request};
use crate::cli::WatchdogArgs;
use crate::config::Config;
use crate::exit::{self, Failure};
use runtime::Clock;
use watchdog::ChildConfig;

pub(crate) fn run(args: WatchdogArgs) -> Result<(), Failure> {
    let mut config = Config::load_or_default(args.config.as_deref())?.watchdog;
    if !args.command.is_empty() {
        config.child.push(ChildConfig {
            name: "command".to_owned(),
            command: args.command,
            probe: None,
        });
    }
    if config.child.is_empty() {
        let text = "nothing to keep alive: add [[watchdog.child]] to the configuration, or a command after --";
        return Err(Failure::text(exit::CONFIG, text));
    }
    telemetry::trace::start("info");
    block_on(async {
        let stop = stop_on_request(args.with_parent);
        watchdog::run(config, Clock::system(), stop).await.map_err(exit::with(exit::SOFTWARE))
    })
}
