//! Outcomes as exit codes.

/// A command that did not do what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) code: u8,
    /// What went wrong, for people.
    pub(crate) error: anyhow::Error,
}

/// A call that is at fault.
#[cfg(feature = "monitor")]
pub(crate) const USAGE: u8 = 2;
/// The answer is no.
#[cfg(any(feature = "gateway", feature = "monitor"))]
pub(crate) const NO: u8 = 1;
/// Input that is at fault (`EX_DATAERR`).
#[cfg(any(feature = "gateway", feature = "monitor"))]
pub(crate) const DATA: u8 = 65;
/// Something that we need is not there (`EX_UNAVAILABLE`).
#[cfg(any(feature = "gateway", feature = "monitor"))]
pub(crate) const UNAVAILABLE: u8 = 69;
/// A fault of ours (`EX_SOFTWARE`).
#[cfg(any(feature = "monitor", feature = "watchdog"))]
pub(crate) const SOFTWARE: u8 = 70;
/// The system refused (`EX_OSERR`).
pub(crate) const SYSTEM: u8 = 71;
/// The configuration is at fault (`EX_CONFIG`).
pub(crate) const CONFIG: u8 = 78;

impl Failure {
    pub(crate) fn new(code: u8, error: impl Into<anyhow::Error>) -> Self {
        Self { code, error: error.into() }
    }

    pub(crate) fn text(code: u8, text: impl Into<String>) -> Self {
        Self { code, error: anyhow::Error::msg(text.into()) }
    }
}

#[cfg(feature = "monitor")]
impl Failure {
    /// The same, said of `place`.
    pub(crate) fn about(self, place: &str) -> Self {
        Self { error: self.error.context(place.to_owned()), ..self }
    }
}

/// For `map_err`: a failure with this code.
pub(crate) fn with<E: Into<anyhow::Error>>(code: u8) -> impl FnOnce(E) -> Failure {
    move |error| Failure::new(code, error)
}
