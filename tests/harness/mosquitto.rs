//! A real Mosquitto with the configuration that the guide recommends, its certificate signed by the deployment's CA.

use crate::{Process, free_port};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use std::path::Path;
use std::process::Command;

/// Where Debian's package puts it.
const PROGRAM: &str = "/usr/sbin/mosquitto";

/// A running broker. Dropping kills it.
pub struct Mosquitto {
    /// `mqtts://127.0.0.1:port`.
    pub url: String,
    _process: Process,
}

impl Mosquitto {
    /// Starts a broker whose files lie in `folder`; `pki` is the control plane's folder of keys.
    pub fn start(folder: &Path, pki: &Path) -> Self {
        assert!(Path::new(PROGRAM).exists(), "{PROGRAM} is not there: run `cargo xtask test`, which installs it");
        let ca = std::fs::read_to_string(pki.join("ca.pem")).expect("the control plane has made its CA");
        let ca_key =
            KeyPair::from_pem(&std::fs::read_to_string(pki.join("ca.key")).expect("the CA has a key")).expect("the key is PEM");
        let issuer = Issuer::from_ca_cert_pem(&ca, ca_key).expect("the CA can issue");
        let key = KeyPair::generate().expect("a key can be made");
        let mut parameters = CertificateParams::new(vec!["localhost".to_owned()]).expect("localhost is a name");
        parameters.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = parameters.signed_by(&key, &issuer).expect("the CA signs");
        let port = free_port();
        let at = |name: &str| folder.join(name).to_string_lossy().into_owned();
        let write = |name: &str, text: &str| {
            std::fs::write(folder.join(name), text).expect("the test's folder is writable");
            at(name)
        };
        let acl =
            "user control-plane\ntopic read d/+/up\ntopic write d/+/down\n\npattern write d/%u/up\npattern read d/%u/down\n";
        let configuration = format!(
            "per_listener_settings true\nlistener {port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\ntls_version tlsv1.2\n\
             require_certificate true\nuse_identity_as_username true\nuse_username_as_clientid true\nallow_anonymous false\n\
             acl_file {}\nmax_packet_size 1049600\nretain_available false\nmax_queued_messages 64\npersistence false\nuser root\n",
            write("broker-ca.pem", &ca),
            write("broker.pem", &certificate.pem()),
            write("broker.key", &key.serialize_pem()),
            write("broker.acl", acl),
        );
        let mut command = Command::new(PROGRAM);
        command.arg("-c").arg(write("mosquitto.conf", &configuration));
        let process = Process::start("mosquitto", command, folder);
        Self { url: format!("mqtts://127.0.0.1:{port}"), _process: process }
    }
}
