//! Good bundles, and every kind of bad one.

use super::*;
use crate::state::Ledger;
use aidos_protocol::artifact::Digest;
use tar::{Builder, EntryType, Header};

struct Device {
    dir: tempfile::TempDir,
    store: Chunks,
    pins: Pins,
}

fn device(max_bytes: u64) -> Device {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(dir.path()).unwrap();
    let store = Chunks::open(dir.path(), ledger.clone(), max_bytes).unwrap();
    Device { store, pins: Pins::open(ledger).unwrap(), dir }
}

impl Device {
    fn import(&self, bundle: &[u8]) -> Result<Imported, BundleError> {
        import(bundle, &self.store, &self.pins, &|_, _| Ok(()), Micros(1_000))
    }
    fn files(&self) -> usize {
        self.store.list().unwrap().len()
    }
}

fn index(files: &[&[u8]]) -> Index {
    let model = |content: &&[u8]| BundledModel {
        name: "digits".parse().unwrap(),
        version: 1,
        digest: Digest::of(content),
        manifest: None,
        golden: None,
    };
    Index {
        format: bundle::FORMAT,
        created_at: Micros(1),
        models: files.iter().map(model).collect(),
        metadata: Vec::new(),
        files: files.iter().map(|content| BundledFile { digest: Digest::of(content), size: content.len() as u64 }).collect(),
    }
}

fn header(kind: EntryType, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size as u64);
    header.set_mode(0o644);
    header
}

struct Maker(Builder<Vec<u8>>);

impl Maker {
    fn with(index: &Index) -> Self {
        Self::raw(&serde_json::to_vec(index).unwrap())
    }
    fn raw(index: &[u8]) -> Self {
        Self(Builder::new(Vec::new())).file(INDEX, index)
    }
    fn file(mut self, name: &str, content: &[u8]) -> Self {
        let mut header = header(EntryType::Regular, content.len());
        // Past the library's own checks: what a hostile archive holds.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }
    fn artifact(self, content: &[u8]) -> Self {
        self.file(&bundle::name(&Digest::of(content)), content)
    }
    fn special(mut self, kind: EntryType, name: &str, target: &str) -> Self {
        let mut header = header(kind, 0);
        header.set_path(name).unwrap();
        header.set_link_name(target).unwrap();
        header.set_cksum();
        self.0.append(&header, &[][..]).unwrap();
        self
    }
    fn done(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

#[test]
fn a_bundle_fills_the_store_and_what_it_brought_waits_for_a_deployment() {
    let device = device(1 << 20);
    let (weights, labels) = (vec![7u8; 300_000], b"labels".to_vec());
    device.store.import(Digest::of(&labels), &labels).unwrap();
    let bundle = Maker::with(&index(&[&weights, &labels])).artifact(&weights).artifact(&labels).done();
    let imported = device.import(&bundle).unwrap();
    assert_eq!((imported.models.len(), imported.stored, imported.stored_bytes, imported.present), (2, 1, 300_000, 1));
    let path = device.store.path(&Digest::of(&weights)).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), weights);
    let kept = device.pins.kept(Micros(2_000)).unwrap();
    assert!(kept.contains(&Digest::of(&weights)) && kept.contains(&Digest::of(&labels)));
    // Again: nothing to do.
    assert_eq!(device.import(&bundle).unwrap().stored, 0);
}

#[test]
fn an_import_begins_anew_over_an_interrupted_download() {
    let device = device(1 << 20);
    let weights = vec![7u8; 10_000];
    let mut download = device.store.download(Digest::of(&weights), 10_000).unwrap();
    download.write(&weights[..5_000]).unwrap();
    download.checkpoint().unwrap();
    drop(download);
    device.import(&Maker::with(&index(&[&weights])).artifact(&weights).done()).unwrap();
    assert_eq!(device.files(), 1);
}

#[test]
fn a_hostile_archive_writes_nothing_beside_the_store_and_is_refused_with_the_reason() {
    let content = b"weights".as_slice();
    let good = index(&[content]);
    let right_name = bundle::name(&Digest::of(content));
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("not list `../../evil`", Maker::with(&good).file("../../evil", b"x").artifact(content).done()),
        ("not list `/etc/evil`", Maker::with(&good).file("/etc/evil", b"x").done()),
        ("not list `artifacts/../x`", Maker::with(&good).file("artifacts/../x", b"x").done()),
        ("is not a file", Maker::with(&good).special(EntryType::Symlink, &right_name, "/etc/passwd").done()),
        ("is not a file", Maker::with(&good).special(EntryType::Link, &right_name, "/etc/passwd").done()),
        ("is not a file", Maker::with(&good).special(EntryType::Directory, "artifacts", "x").done()),
        ("is not a file", Maker::with(&good).special(EntryType::Char, "artifacts", "x").done()),
        ("is not a file", Maker::with(&good).special(EntryType::GNULongName, &right_name, "x").done()),
        ("is not a file", Maker::with(&good).special(EntryType::XHeader, &right_name, "x").done()),
        ("or only once", Maker::with(&good).artifact(content).artifact(content).done()),
        ("ends before", Maker::with(&good).done()),
        ("not sha256:", Maker::with(&good).file(&right_name, b"weightz").done()),
        ("has 6 bytes", Maker::with(&good).file(&right_name, b"weight").done()),
        ("begins with `artifacts", Maker(Builder::new(Vec::new())).artifact(content).done()),
        ("empty", Builder::new(Vec::new()).into_inner().unwrap()),
        ("cannot be read", Maker::raw(b"{}").done()),
        ("format 9", Maker::raw(br#"{"format":9}"#).done()),
        ("limit", Maker::raw(&vec![b' '; MAX_INDEX_BYTES as usize + 1]).done()),
    ];
    for (why, archive) in cases {
        let device = device(1 << 20);
        let before = std::fs::read_dir(device.dir.path()).unwrap().count();
        let error = device.import(&archive).unwrap_err().to_string();
        assert!(error.contains(why), "{why}: {error}");
        assert!(device.files() <= 1, "{why}");
        assert_eq!(std::fs::read_dir(device.dir.path()).unwrap().count(), before, "{why}");
        assert!(!device.dir.path().join("../evil").exists());
    }
}

#[test]
fn an_archive_that_breaks_off_anywhere_leaves_nothing_to_go_on_from() {
    let weights: Vec<u8> = (0..20_000u32).map(|n| (n >> 3) as u8).collect();
    let whole = Maker::with(&index(&[&weights])).artifact(&weights).done();
    for cut in [0, 100, 512, 700, 1_024, 1_600, 2_000, 12_000, 21_000] {
        let device = device(1 << 20);
        assert!(device.import(&whole[..cut]).is_err(), "cut at {cut}");
        assert_eq!(device.files(), 0, "cut at {cut}");
        assert_eq!(device.store.download(Digest::of(&weights), weights.len() as u64).unwrap().offset(), 0);
    }
    let mut noise = whole.clone();
    for byte in noise.iter_mut().skip(512).step_by(97) {
        *byte ^= 0x55;
    }
    assert!(device(1 << 20).import(&noise).is_err());
}

#[test]
fn what_does_not_fit_is_refused_and_says_how_much_does() {
    let weights = vec![1u8; 2_000_000];
    let error = device(1 << 20).import(&Maker::with(&index(&[&weights])).artifact(&weights).done()).unwrap_err();
    assert!(error.to_string().contains("storage.max_bytes"), "{error}");
}

#[test]
fn a_folder_or_a_pipe_is_no_bundle() {
    let device = device(1 << 20);
    let error = import_file(device.dir.path(), &device.store, &device.pins, &|_, _| Ok(()), Micros(0)).unwrap_err();
    assert!(error.to_string().contains("not a file"), "{error}");
    let error = import_file(Path::new("/nowhere/b.tar"), &device.store, &device.pins, &|_, _| Ok(()), Micros(0)).unwrap_err();
    assert!(error.to_string().contains("/nowhere/b.tar"), "{error}");
}

#[test]
fn nothing_of_a_bundle_is_kept_that_its_metadata_do_not_vouch_for() {
    use aidos_protocol::bundle::BundledMetadata;
    use aidos_protocol::trust::TrustError;
    let (device, content) = (device(1 << 20), &b"weights"[..]);
    let metadata = vec![BundledMetadata { name: "timestamp.json".into(), size: 4 }];
    let index = Index { format: bundle::SIGNED_FORMAT, metadata, ..index(&[content]) };
    let bundle = |signed: &[u8], name: &str| {
        let maker = Maker::with(&index).file("metadata/timestamp.json", signed);
        maker.file(name, content).done()
    };
    let name = bundle::name(&Digest::of(content));
    let whole = bundle(b"sign", &name);
    let import = |bytes: &[u8], judge: Judge<'_>| import(bytes, &device.store, &device.pins, judge, Micros(1_000));
    let refused = import(&whole, &|metadata, models| {
        assert_eq!((metadata["timestamp.json"].as_slice(), models.len()), (&b"sign"[..], 1));
        Err(TrustError::Missing { file: "timestamp.json".into() }.into())
    });
    assert!(matches!(refused.unwrap_err(), BundleError::Unvouched(_)));
    assert_eq!(device.files(), 0);
    for bad in [bundle(b"longer", &name), Maker::with(&index).file(&name, content).done()] {
        let refused = import(&bad, &|_, _| panic!("what is not there is not judged")).unwrap_err();
        assert!(refused.to_string().contains("timestamp.json"), "{refused}");
    }
    import(&whole, &|_, _| Ok(())).unwrap();
    assert_eq!(device.files(), 1);
}
