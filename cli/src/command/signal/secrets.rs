//! Secrets in files that nobody else may read.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use kinlog_agent::api::ErrorKind;
use kinlog_signal::bus::BusSecret;
use kinlog_signal::ice::TurnSecrets;
use zeroize::Zeroizing;

use crate::error::Failure;

/// Largest file with the secret of the bus.
const SECRET_BYTES_MAX: u64 = 4 * 1024;

/// Two secrets of the most bytes, with room for empty lines.
const TURN_SECRET_FILE_BYTES_MAX: u64 = 1_024;

/// Reads the secrets that TURN servers share, which nobody else may read.
pub(super) fn turn_secrets(file: &Path) -> Result<TurnSecrets, Failure> {
    let shown = format!("turn-secret-file {}", file.display());
    let failed = |error| Failure::io(&shown, &error);
    let metadata = std::fs::metadata(file).map_err(failed)?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let refused = format!("{shown}: others may read it (mode {mode:o})");
        let failure = Failure::new(ErrorKind::Permission, refused);
        return Err(failure.hint(format!("chmod 600 {}", file.display())));
    }
    let length = metadata.len();
    if length > TURN_SECRET_FILE_BYTES_MAX {
        return Err(Failure::usage(format!(
            "{shown}: {length} bytes, secrets have at most {TURN_SECRET_FILE_BYTES_MAX}"
        )));
    }
    let text = Zeroizing::new(std::fs::read_to_string(file).map_err(failed)?);
    TurnSecrets::parse(&text).map_err(|error| Failure::usage(format!("{shown}: {error}")))
}

/// Draws a secret for a TURN server that nobody else has to know.
pub(super) fn fresh_turn_secret() -> Result<TurnSecrets, Failure> {
    let mut bytes = Zeroizing::new([0; 32]);
    let drawn = getrandom::fill(bytes.as_mut());
    drawn.map_err(|error| Failure::usage(format!("no random bytes: {error}")))?;
    let text = Zeroizing::new(kinlog_feeds::text::encode_hex(bytes.as_ref()));
    TurnSecrets::parse(&text).map_err(|error| Failure::usage(error.to_string()))
}

/// Reads the secret of the bus; a file that others may read holds none.
pub(super) fn read_secret(path: &Path) -> Result<BusSecret, Failure> {
    let failed = |error| Failure::io(path.display(), &error);
    let metadata = std::fs::metadata(path).map_err(failed)?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let shown = format!("{}: others may read it (mode {mode:o})", path.display());
        return Err(Failure::new(ErrorKind::Permission, shown)
            .hint(format!("chmod 600 {}", path.display())));
    }
    if metadata.len() > SECRET_BYTES_MAX {
        return Err(Failure::usage(format!(
            "{}: {} bytes, a secret has at most {SECRET_BYTES_MAX}",
            path.display(),
            metadata.len()
        )));
    }
    let bytes = Zeroizing::new(std::fs::read(path).map_err(failed)?);
    BusSecret::new(&bytes).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}
