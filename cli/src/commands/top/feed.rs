//! The control plane's live events as a stream that comes back by itself. Who reads it fetches what changed; so it is enough to
//! go on where it is now, and events of the time between are not asked for.

use crate::client::Client;
use aidos_protocol::api::events::EventView;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use reqwest::{Method, header};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};
use tokio_util::io::StreamReader;

/// The longest line of the stream.
const MAX_LINE: usize = 256 << 10;
/// What waits to be shown: a slower terminal slows the reading down.
const WAITING: usize = 64;
/// How long it waits after the end of one connection.
const PAUSE: Duration = Duration::from_secs(3);

/// What the stream says.
#[derive(Debug)]
pub(super) enum Told {
    /// It is connected.
    Connected,
    /// Something happened.
    Event(Box<EventView>),
    /// It is not connected any more.
    Ended,
}

/// Reads the stream until nobody listens any more.
pub(super) fn listen(client: Client) -> mpsc::Receiver<Told> {
    let (tell, told) = mpsc::channel(WAITING);
    tokio::spawn(async move { tell_all(&client, &tell).await });
    told
}

/// Ends with an error when nobody listens.
async fn tell_all(client: &Client, tell: &mpsc::Sender<Told>) -> Result<(), mpsc::error::SendError<Told>> {
    loop {
        if let Some(mut lines) = connect(client).await {
            tell.send(Told::Connected).await?;
            while let Some(Ok(line)) = lines.next().await {
                if let Some(event) = line.strip_prefix("data:").and_then(|data| serde_json::from_str(data.trim()).ok()) {
                    tell.send(Told::Event(event)).await?;
                }
            }
            tell.send(Told::Ended).await?;
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = tell.closed() => return Ok(()),
        }
    }
}

async fn connect(client: &Client) -> Option<BoxStream<'static, Result<String, LinesCodecError>>> {
    // Without an end: the time that a request may take is for one answer.
    let request = client.request(Method::GET, "events").timeout(Duration::MAX).header(header::ACCEPT, "text/event-stream");
    let response = client.send(request).await.ok()?;
    let bytes = StreamReader::new(response.bytes_stream().map_err(std::io::Error::other));
    Some(FramedRead::new(bytes, LinesCodec::new_with_max_length(MAX_LINE)).boxed())
}
