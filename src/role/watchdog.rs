//! The watchdog process.

use super::serving::expose_process;
use super::{block_on_one_thread, stop_on_request};
use crate::cli::WatchdogArgs;
use crate::config::Config;
use crate::exit::{self, Failure};
use platform::child::Command;
use runtime::Clock;
use telemetry::Registry;
use watchdog::ChildConfig;

/// The command that [`become_bound`] is.
const BOUND: &str = "bound";

pub(crate) fn run(args: WatchdogArgs) -> Result<(), Failure> {
    let mut config = Config::load_or_default(args.config.as_deref())?.watchdog;
    if !args.command.is_empty() {
        let name = "command".to_owned();
        config.child.push(ChildConfig { name, command: args.command, ..ChildConfig::default() });
    }
    if config.child.is_empty() && config.container.is_empty() {
        let text = "nothing to keep alive: add [[watchdog.child]] or [[watchdog.container]] to the configuration, or a command after --";
        return Err(Failure::text(exit::CONFIG, text));
    }
    telemetry::trace::start("info");
    let program = std::env::current_exe().map_err(exit::with(exit::SYSTEM))?;
    let bind = if cfg!(unix) {
        vec![program.to_string_lossy().into_owned(), BOUND.to_owned(), "--".to_owned()]
    } else {
        Vec::new()
    };
    // One thread: the system ends a bound child when the thread that started it ends.
    block_on_one_thread(async {
        let stop = stop_on_request(args.with_parent);
        let registry = Registry::new();
        expose_process(&registry, "watchdog");
        let run = watchdog::run(config, bind, Clock::system(), registry, stop);
        run.await.map_err(exit::with(exit::SOFTWARE))
    })
}

/// Becomes `command`, bound to the life of the watchdog that started us.
pub(crate) fn become_bound(command: Vec<String>) -> Result<(), Failure> {
    let mut words = command.into_iter();
    let mut command = Command::new(words.next().unwrap_or_default(), words.collect());
    if std::env::var_os("LISTEN_FDS").is_some() {
        // Our process id stays, so whoever reads handles knows that they are meant for it.
        command.env.push(("LISTEN_PID".to_owned(), std::process::id().to_string()));
    }
    Err(Failure::new(exit::SYSTEM, platform::child::become_bound(&command)))
}
