//! The API with a certificate from elsewhere (`--tls-cert`, `--tls-key`): people and devices whose system trusts its issuer get in,
//! others are told why not, and nobody is let in unseen.

use crate::stories::{digit, predicts_seven};
use aidos_tests::{Process, binary, eventually};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

/// A company's CA, and a certificate of it for this machine.
struct Company {
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
    other_key: PathBuf,
}

impl Company {
    fn new(folder: &Path) -> Self {
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let ca_key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = parameters.self_signed(&ca_key).unwrap();
        let issuer = Issuer::new(parameters, ca_key);
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(["localhost", "127.0.0.1"].map(str::to_owned)).unwrap();
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = parameters.signed_by(&key, &issuer).unwrap();
        Self {
            ca: write("company-ca.pem", ca.pem()),
            certificate: write("api.pem", certificate.pem()),
            key: write("api.key", key.serialize_pem()),
            other_key: write("other.key", KeyPair::generate().unwrap().serialize_pem()),
        }
    }

    /// A program on a machine whose system trusts the company, or on one that does not.
    fn machine(&self, program: &str, trusts: bool, folder: &Path) -> Command {
        let mut command = Command::new(binary(program));
        command.env("AIDOS_DATA_DIR", folder).env("AIDOS_CONTEXTS", folder.join("contexts.toml"));
        match trusts {
            true => command.env("SSL_CERT_FILE", &self.ca),
            false => command.env("SSL_CERT_FILE", "/dev/null"),
        };
        command.env("SSL_CERT_DIR", "/nonexistent");
        command
    }

    fn up(&self, run: &str, folder: &Path) -> Process {
        let mut command = self.machine("aidos", true, folder);
        command.arg("up").arg("--tls-cert").arg(&self.certificate).arg("--tls-key").arg(&self.key);
        for port in ["--listen", "--quic", "--mqtt", "--serve"] {
            command.args([port, "127.0.0.1:0"]);
        }
        Process::start(run, command, folder)
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_from_elsewhere_serves_people_and_devices_that_trust_its_issuer() {
    let folder = tempfile::tempdir().unwrap();
    let company = Company::new(folder.path());
    let mut plane = company.up("up", folder.path());
    eventually("`aidos up` says what to try next", async || {
        assert!(plane.is_running(), "`aidos up` ended:\n{}", plane.log());
        plane.log().contains("aidos predict digits").then_some(())
    })
    .await;
    assert!(plane.log().contains("https://127.0.0.1:"), "{}", plane.log());
    let seven = digit(7);
    predicts_seven(
        &company.machine("aidos", true, folder.path()).args(["predict", "digits", "--input"]).arg(&seven).output().unwrap(),
    );

    // Another device joins over it, and the sample comes to it over it.
    let create = ["token", "create", "--uses", "2", "--label", "site=local", "-o", "json"];
    let created = company.machine("aidos", true, folder.path()).args(create).output().unwrap();
    assert!(created.status.success(), "{}", stderr(&created));
    let created: serde_json::Value = serde_json::from_slice(&created.stdout).unwrap();
    let (token, line) = (created["token"].as_str().unwrap(), created["command"].as_str().unwrap());
    let url = line.split_whitespace().find(|word| word.starts_with("https://")).expect("the line names the API");
    let join = |trusts: bool, dir: &Path| {
        let mut command = company.machine("aidos-agent", trusts, folder.path());
        command.args(["join", url, "--token", token, "--name", "edge-1", "--data-dir"]).arg(dir).output().unwrap()
    };
    let dir = folder.path().join("edge-1");
    let refused = join(false, &dir);
    assert!(!refused.status.success() && stderr(&refused).contains("certificate"), "{}", stderr(&refused));
    let joined = join(true, &dir);
    assert!(joined.status.success(), "{}", stderr(&joined));
    let mut command = company.machine("aidos-agent", true, folder.path());
    command.args(["run", "--serve", "127.0.0.1:0", "--data-dir"]).arg(&dir);
    let mut agent = Process::start("edge-1", command, folder.path());
    let predicted = eventually("the second device answers", async || {
        assert!(agent.is_running(), "the agent ended:\n{}", agent.log());
        let run: serde_json::Value = serde_json::from_slice(&std::fs::read(dir.join("run.json")).ok()?).ok()?;
        let at = format!("http://{}", run["serve_addr"].as_str()?);
        let mut command = company.machine("aidos", true, folder.path());
        let output = command.args(["predict", "digits", "--agent-url", &at, "--input"]).arg(&seven).output().unwrap();
        output.status.success().then_some(output)
    })
    .await;
    predicts_seven(&predicted);

    // Who does not trust the issuer is told so, and one use of the token is left, since the refused join sent nothing.
    let strange = company.machine("aidos", false, folder.path()).arg("status").output().unwrap();
    assert!(strange.status.code() == Some(1) && stderr(&strange).contains("certificate"), "{}", stderr(&strange));
    let tokens = company.machine("aidos", true, folder.path()).args(["token", "list", "-o", "json"]).output().unwrap();
    let tokens: serde_json::Value = serde_json::from_slice(&tokens.stdout).unwrap();
    let used = tokens.as_array().unwrap().iter().find(|t| t["id"] == created["id"]).map(|t| t["used"].clone());
    assert_eq!(used, Some(1.into()), "{tokens}");
    assert!(agent.terminate(Duration::from_secs(20)).success());
    assert!(plane.terminate(Duration::from_secs(20)).success());
}

#[test]
fn a_certificate_that_cannot_be_served_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let company = Company::new(folder.path());
    let serve = |arguments: &[&Path]| {
        let mut command = Command::new(binary("aidos-control-plane"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--quic", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--data-dir"]);
        let output = command.arg(folder.path().join("plane")).args(arguments).output().unwrap();
        assert!(!output.status.success());
        stderr(&output)
    };
    let (cert, key) = (Path::new("--tls-cert"), Path::new("--tls-key"));
    let alone = serve(&[cert, &company.certificate]);
    assert!(alone.contains("--tls-cert and --tls-key belong together"), "{alone}");
    let other = serve(&[cert, &company.certificate, key, &company.other_key]);
    assert!(other.contains("--tls-cert and --tls-key do not match"), "{other}");
    let swapped = serve(&[cert, &company.key, key, &company.certificate]);
    assert!(swapped.contains("api.k") && swapped.contains("PEM"), "{swapped}");
    let missing = serve(&[cert, Path::new("/nonexistent.pem"), key, &company.key]);
    assert!(missing.contains("/nonexistent.pem"), "{missing}");
}
