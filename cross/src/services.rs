//! The real peers that tests talk to, started on free loopback ports and ended with this process: Postgres and an S3 server.

use crate::setup::{Tools, eprintln_step, find, run};
use anyhow::{Context, Result, bail};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Slow disks take seconds for a first start; longer means that it will not come.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Running peers; dropping ends them.
pub(crate) struct Services {
    /// A server where the tests may make databases.
    pub(crate) postgres_url: String,
    /// An S3 endpoint that takes any credentials.
    pub(crate) s3_url: String,
    processes: Vec<Child>,
    folders: [PathBuf; 2],
}

/// Starts all of them and waits until each takes connections.
pub(crate) fn start(tools: &Tools) -> Result<Services> {
    eprintln_step("starting Postgres and an S3 server");
    let folder = tools.cache.join(format!("services-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    // A folder of the server's own user: the cache folder may not be reachable for that user.
    let data = std::env::temp_dir().join(format!("aidos-postgres-{}", std::process::id()));
    std::fs::create_dir_all(&data)?;
    let (postgres_port, s3_port) = (free_port()?, free_port()?);
    let mut services = Services {
        postgres_url: format!("postgres://postgres@127.0.0.1:{postgres_port}/postgres"),
        s3_url: format!("http://127.0.0.1:{s3_port}"),
        processes: Vec::new(),
        folders: [folder.clone(), data.clone()],
    };
    services.processes.push(postgres(&folder, &data, postgres_port)?);
    let log = std::fs::File::create(folder.join("moto.log"))?;
    let moto = tools.python.with_file_name("moto_server");
    services.processes.push(
        Command::new(moto)
            .args(["-H", "127.0.0.1", "-p", &s3_port.to_string()])
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("moto_server could not be started")?,
    );
    for (name, port) in [("Postgres", postgres_port), ("the S3 server", s3_port)] {
        wait_for(name, port, &folder)?;
    }
    Ok(services)
}

impl Drop for Services {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // A process that is gone already is as good as ended.
            let _ = process.kill();
            let _ = process.wait();
        }
        for folder in &self.folders {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// Postgres refuses to run as root, so root starts it as the package's own user.
fn postgres(folder: &Path, data: &Path, port: u16) -> Result<Child> {
    let initdb = find(&["/usr/lib/postgresql/*/bin/initdb"]).context("initdb is missing: apt-get install postgresql")?;
    let root = std::fs::metadata("/proc/self").map(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0).unwrap_or(false);
    let as_server = |program: &Path| {
        let mut command = if root { Command::new("setpriv") } else { Command::new(program) };
        if root {
            command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--pdeathsig=KILL"]).arg(program);
        }
        command.current_dir("/");
        command
    };
    if root {
        run(Command::new("chown").arg("-R").arg("postgres:postgres").arg(data))?;
    }
    let cluster = data.join("data");
    run(as_server(&initdb)
        .arg("-D")
        .arg(&cluster)
        .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"])
        .stdout(Stdio::null()))?;
    let log = std::fs::File::create(folder.join("postgres.log"))?;
    as_server(&initdb.with_file_name("postgres"))
        .arg("-D")
        .arg(&cluster)
        .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "max_connections=300", "-k"])
        .arg(data)
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("postgres could not be started")
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn wait_for(name: &str, port: u16, folder: &Path) -> Result<()> {
    let start = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if start.elapsed() > START_LIMIT {
            bail!("{name} does not answer after {START_LIMIT:?}; its log lies in {}", folder.display());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
