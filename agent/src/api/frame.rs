//! Frames on the local socket: `u32le JSON bytes | u32le payload bytes | JSON | payload`.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::api::{Error, ErrorKind};
use crate::limits::{FRAME_JSON_BYTES_MAX, FRAME_PAYLOAD_BYTES_MAX};

/// A value with the bytes that travel beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame<T> {
    /// The JSON part.
    pub value: T,
    /// The binary part, may be empty.
    pub payload: Bytes,
}

/// Writes one frame and flushes it.
pub async fn write_frame<T: Serialize, W: AsyncWrite + Unpin>(
    writer: &mut W,
    value: &T,
    payload: &[u8],
) -> Result<(), Error> {
    let json = serde_json::to_vec(value).map_err(|e| Error::general(format!("frame: {e}")))?;
    if json.len() > FRAME_JSON_BYTES_MAX || payload.len() > FRAME_PAYLOAD_BYTES_MAX {
        return Err(Error::usage(format!(
            "frame of {} and {} bytes is above the limits of {FRAME_JSON_BYTES_MAX} and {FRAME_PAYLOAD_BYTES_MAX}",
            json.len(),
            payload.len()
        )));
    }
    let mut head = Vec::with_capacity(8 + json.len());
    head.extend_from_slice(&(json.len() as u32).to_le_bytes());
    head.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    head.extend_from_slice(&json);
    writer.write_all(&head).await.map_err(closed)?;
    writer.write_all(payload).await.map_err(closed)?;
    writer.flush().await.map_err(closed)
}

/// Reads one frame; `None` when the far side closed between two frames.
pub async fn read_frame<T: DeserializeOwned, R: AsyncRead + Unpin>(
    reader: &mut R,
) -> Result<Option<Frame<T>>, Error> {
    let json_bytes = match reader.read_u32_le().await {
        Ok(count) => count as usize,
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(closed(error)),
    };
    let payload_bytes = reader.read_u32_le().await.map_err(closed)? as usize;
    if json_bytes > FRAME_JSON_BYTES_MAX || payload_bytes > FRAME_PAYLOAD_BYTES_MAX {
        return Err(Error::usage(format!(
            "frame of {json_bytes} and {payload_bytes} bytes is above the limits of {FRAME_JSON_BYTES_MAX} and {FRAME_PAYLOAD_BYTES_MAX}"
        )));
    }
    let mut json = vec![0; json_bytes];
    reader.read_exact(&mut json).await.map_err(closed)?;
    let mut payload = vec![0; payload_bytes];
    reader.read_exact(&mut payload).await.map_err(closed)?;
    let value = serde_json::from_slice(&json).map_err(|e| {
        Error::new(
            ErrorKind::Usage,
            format!("frame is no value of this version: {e}"),
        )
    })?;
    Ok(Some(Frame {
        value,
        payload: payload.into(),
    }))
}

fn closed(error: std::io::Error) -> Error {
    Error::new(
        ErrorKind::NeedsAgent,
        format!("connection to the running agent: {error}"),
    )
    .hint("is `kinlog up` still running?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_round_trip_with_payload() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &"value", b"payload")
            .await
            .expect("written");
        let frame = read_frame::<String, _>(&mut bytes.as_slice())
            .await
            .expect("read");
        let frame = frame.expect("one frame");
        assert_eq!(
            (frame.value.as_str(), &frame.payload[..]),
            ("value", &b"payload"[..])
        );
        assert_eq!(read_frame::<String, _>(&mut [].as_slice()).await, Ok(None));
    }

    #[tokio::test]
    async fn an_oversize_frame_is_refused_before_it_is_read() {
        let head = [0xff; 8];
        let error = read_frame::<String, _>(&mut head.as_slice())
            .await
            .expect_err("too large");
        assert_eq!(error.kind, ErrorKind::Usage);
    }

    #[tokio::test]
    async fn a_truncated_frame_is_an_error() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &"value", b"payload")
            .await
            .expect("written");
        bytes.pop();
        assert!(
            read_frame::<String, _>(&mut bytes.as_slice())
                .await
                .is_err()
        );
    }
}
