//! Serves one ONNX file over the Open Inference Protocol without a control plane:
//! `cargo run -p aidos-agent --example serve -- models/digits/digits.onnx 127.0.0.1:7080`

use aidos_agent::{
    infer::{Models, Settings},
    serve::{ServeContext, router, run},
};
use aidos_protocol::manifest::Manifest;
use anyhow::{Context as _, Result};
use std::{env, path::PathBuf};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let mut arguments = env::args_os().skip(1);
    let file = PathBuf::from(arguments.next().context("usage: serve FILE.onnx [ADDRESS]")?);
    let address = arguments.next().map_or_else(|| "127.0.0.1:7080".into(), |text| text.to_string_lossy().into_owned());
    let name = file.file_stem().context("the file has no name")?.to_string_lossy().parse()?;

    let models = Models::new(Settings::default());
    models.load(&name, 1, &file, Manifest::default()).await?;
    models.activate(&name, 1)?;
    let listener = TcpListener::bind(&address).await?;
    tracing::info!("{name} answers at http://{}/v2/models/{name}", listener.local_addr()?);

    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.cancel();
        }
    });
    Ok(run(listener, router(models, ServeContext::default()), shutdown).await?)
}
