//! Secrets come from files or the environment, are read when they are used, and are never shown.

use std::path::Path;

/// The secret, from the first place that is given.
pub(crate) fn read(
    what: &str,
    plain: Option<&str>,
    file: Option<&Path>,
    variable: Option<&str>,
) -> Result<Option<String>, String> {
    if let Some(text) = plain {
        return Ok(Some(text.to_owned()));
    }
    if let Some(file) = file {
        let text = std::fs::read_to_string(file);
        let text = text.map_err(|error| {
            format!("the {what} could not be read from {}: {error}", file.display())
        })?;
        return Ok(Some(text.trim().to_owned()));
    }
    let Some(variable) = variable else { return Ok(None) };
    let text = std::env::var(variable)
        .map_err(|_| format!("the {what} is not in the environment variable {variable}"))?;
    Ok(Some(text.trim().to_owned()))
}
