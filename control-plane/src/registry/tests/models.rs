use super::{DIGITS, Registry, digits_again};
use crate::platform::db::Db;
use crate::platform::testing::both_stores;
use crate::registry::RegistryError;
use crate::registry::versions::Registered;
use aidos_protocol::ModelName;
use aidos_protocol::api::models::{CreateModel, CreateVersion, PatchModel};
use aidos_protocol::artifact::Digest;
use aidos_protocol::manifest::Manifest;
use std::collections::BTreeMap;

both_stores!(
    a_pushed_file_becomes_versions_that_are_counted_up,
    the_same_file_again_is_the_version_it_has,
    what_is_not_a_model_is_refused_with_the_reason,
    a_manifest_must_speak_of_the_model,
    a_long_manifest_becomes_an_artifact,
    a_stale_edit_is_refused_and_nothing_is_lost,
    references_resolve_to_versions,
    a_held_model_stays_and_a_free_one_goes_with_its_files,
    models_are_listed_by_name_and_found_by_text,
    tenants_see_only_their_own_models,
);

fn name() -> ModelName {
    "digits".parse().unwrap()
}
fn request(digest: Digest) -> CreateVersion {
    CreateVersion { digest, manifest: None, golden: None, card: None, source: Some("test".into()) }
}
async fn with_model(db: Db) -> Registry {
    let registry = Registry::on(db).await;
    registry.models.create(&registry.alice, create("digits", "Digits, 100% handwritten")).await.unwrap();
    registry
}
fn create(name: &str, description: &str) -> CreateModel {
    CreateModel { name: name.parse().unwrap(), description: description.into(), labels: BTreeMap::new(), card: String::new() }
}
async fn push(registry: &Registry, bytes: &[u8]) -> Registered {
    let digest = registry.upload(&registry.alice, bytes).await;
    registry.models.register(&registry.alice, &name(), request(digest)).await.unwrap()
}

async fn a_pushed_file_becomes_versions_that_are_counted_up(db: Db) {
    let registry = with_model(db).await;
    let Registered::New(first) = push(&registry, DIGITS).await else { panic!("it is new") };
    let Registered::New(second) = push(&registry, &digits_again()).await else { panic!("it is new") };
    assert_eq!((first.version, second.version), (1, 2));
    assert_eq!((first.facts.inputs[0].name.as_str(), first.facts.inputs[0].dtype.as_str()), ("image", "FP32"));
    assert_eq!(first.facts.inputs[0].shape.as_deref().unwrap(), ["N", "1", "28", "28"]);
    assert_eq!(first.facts.parameters, 61_130);
    let (tenant, models) = (registry.alice.tenant, &registry.models);
    assert_eq!(models.version(tenant, &name(), 1).await.unwrap(), first);
    let list = models.versions(tenant, &name(), u64::MAX, 10).await.unwrap();
    assert_eq!(list.iter().map(|v| v.version).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(models.get(tenant, &name()).await.unwrap().last_version, 2);
}

async fn the_same_file_again_is_the_version_it_has(db: Db) {
    let registry = with_model(db).await;
    push(&registry, DIGITS).await;
    push(&registry, &digits_again()).await;
    let Registered::Existing(again) = push(&registry, DIGITS).await else { panic!("it exists") };
    assert_eq!(again.version, 1);
    let labelled = Manifest { labels: vec!["zero".into()], ..Manifest::default() };
    let with_manifest = CreateVersion { manifest: Some(labelled), ..request(Digest::of(DIGITS)) };
    let third = registry.models.register(&registry.alice, &name(), with_manifest.clone()).await.unwrap();
    assert!(matches!(third, Registered::New(v) if v.version == 3));
    let again = registry.models.register(&registry.alice, &name(), with_manifest).await.unwrap();
    assert!(matches!(again, Registered::Existing(v) if v.version == 3));
}

async fn what_is_not_a_model_is_refused_with_the_reason(db: Db) {
    let registry = with_model(db).await;
    for (bytes, reason) in
        [(b"not a model at all".as_slice(), "ONNX"), (&DIGITS[..DIGITS.len() - 7], "cut off"), (b"{}".as_slice(), "ONNX")]
    {
        let digest = registry.upload(&registry.alice, bytes).await;
        let refused = registry.models.register(&registry.alice, &name(), request(digest)).await;
        let Err(RegistryError::NotAModel(text)) = refused else { panic!("{refused:?}") };
        assert!(text.contains(reason), "{text}");
    }
    assert_eq!(registry.models.get(registry.alice.tenant, &name()).await.unwrap().last_version, 0);
    let missing = registry.models.register(&registry.alice, &name(), request(Digest::of(b"never sent"))).await;
    assert!(matches!(missing, Err(RegistryError::NotFound(_))));
    let nameless = registry.models.register(&registry.alice, &"other".parse().unwrap(), request(Digest::of(DIGITS))).await;
    assert!(matches!(nameless, Err(RegistryError::NotFound(_))));
}

async fn a_manifest_must_speak_of_the_model(db: Db) {
    let registry = with_model(db).await;
    let digest = registry.upload(&registry.alice, DIGITS).await;
    let manifest = |input: &str| {
        let text = format!("[image]\ninput = '{input}'\nwidth = 28\nheight = 28\ncolor = 'gray'\n");
        CreateVersion { manifest: Some(Manifest::from_toml(&text).unwrap()), ..request(digest) }
    };
    let refused = registry.models.register(&registry.alice, &name(), manifest("pixels")).await.unwrap_err();
    assert_eq!(refused.to_string(), "image.input is `pixels`, the model's inputs are image");
    assert!(registry.models.register(&registry.alice, &name(), manifest("image")).await.is_ok());
}

async fn a_long_manifest_becomes_an_artifact(db: Db) {
    let registry = with_model(db).await;
    let digest = registry.upload(&registry.alice, DIGITS).await;
    let labels = (0..2_000).map(|n| format!("label number {n}")).collect();
    let manifest = Manifest { labels, ..Manifest::default() };
    let request = CreateVersion { manifest: Some(manifest.clone()), ..request(digest) };
    let Registered::New(row) = registry.models.register(&registry.alice, &name(), request).await.unwrap() else {
        panic!("it is new")
    };
    let text = crate::registry::versions::manifest_text(&manifest);
    assert_eq!(row.manifest_digest, Some(Digest::of(text.as_bytes())));
    assert_eq!(
        registry.artifacts.get(registry.alice.tenant, &row.manifest_digest.unwrap()).await.unwrap().size,
        text.len() as u64
    );
}

async fn a_stale_edit_is_refused_and_nothing_is_lost(db: Db) {
    let registry = with_model(db).await;
    let edit = async |card: &str, seen: u64| {
        let patch = PatchModel {
            card: Some(card.into()),
            labels: [("team".to_owned(), Some("vision".to_owned()))].into(),
            ..PatchModel::default()
        };
        registry.models.edit(&registry.alice, &name(), patch, |row| row.revision == seen).await
    };
    let first = edit("one", 1).await.unwrap();
    assert_eq!((first.revision, first.card.as_str(), first.description.as_str()), (2, "one", "Digits, 100% handwritten"));
    assert!(matches!(edit("two", 1).await, Err(RegistryError::Stale { present: 2 })));
    let kept = registry.models.get(registry.alice.tenant, &name()).await.unwrap();
    assert_eq!((kept.card.as_str(), kept.labels["team"].as_str()), ("one", "vision"));
    let bad = PatchModel { labels: [("a b".to_owned(), Some(String::new()))].into(), ..PatchModel::default() };
    let refused = registry.models.edit(&registry.alice, &name(), bad, |_| true).await;
    assert!(matches!(refused, Err(RegistryError::Invalid { field: "labels", .. })));
    let gone = PatchModel { labels: [("team".to_owned(), None)].into(), ..PatchModel::default() };
    assert!(registry.models.edit(&registry.alice, &name(), gone, |_| true).await.unwrap().labels.is_empty());
}

async fn references_resolve_to_versions(db: Db) {
    let registry = with_model(db).await;
    let (tenant, models) = (registry.alice.tenant, &registry.models);
    assert!(matches!(models.resolve(tenant, "digits").await, Err(RegistryError::NotFound(_))));
    push(&registry, DIGITS).await;
    push(&registry, &digits_again()).await;
    let champion = "champion".parse().unwrap();
    models.put_alias(&registry.alice, &name(), &champion, 1).await.unwrap();
    for (text, version) in [("digits", 2), ("digits@latest", 2), ("digits@1", 1), ("digits@champion", 1)] {
        assert_eq!(models.resolve(tenant, text).await.unwrap().version, version, "{text}");
    }
    for missing in ["digits@3", "digits@other", "other", "other@1"] {
        assert!(matches!(models.resolve(tenant, missing).await, Err(RegistryError::NotFound(_))), "{missing}");
    }
    assert!(matches!(models.resolve(tenant, "digits@").await, Err(RegistryError::Invalid { field: "model", .. })));
    models.put_alias(&registry.alice, &name(), &champion, 2).await.unwrap();
    assert_eq!(models.resolve(tenant, "digits@champion").await.unwrap().version, 2);
    assert!(matches!(models.put_alias(&registry.alice, &name(), &champion, 9).await, Err(RegistryError::NotFound(_))));
    models.delete_alias(&registry.alice, &name(), &champion).await.unwrap();
    assert!(matches!(models.resolve(tenant, "digits@champion").await, Err(RegistryError::NotFound(_))));
}

async fn a_held_model_stays_and_a_free_one_goes_with_its_files(db: Db) {
    let registry = with_model(db.clone()).await;
    let (tenant, models) = (registry.alice.tenant, &registry.models);
    push(&registry, DIGITS).await;
    models.create(&registry.alice, create("twin", "")).await.unwrap();
    models.register(&registry.alice, &"twin".parse().unwrap(), request(Digest::of(DIGITS))).await.unwrap();
    push(&registry, &digits_again()).await;

    let mut tx = db.begin().await.unwrap();
    models.hold(&mut tx, tenant, &name(), 1, "deployment dep_x").await.unwrap();
    tx.commit().await.unwrap();
    let refused = models.delete(&registry.alice, &name()).await.unwrap_err();
    assert!(refused.to_string().contains("deployment dep_x"), "{refused}");
    let mut tx = db.begin().await.unwrap();
    models.release(&mut tx, tenant, &name(), "deployment dep_x").await.unwrap();
    tx.commit().await.unwrap();

    models.delete(&registry.alice, &name()).await.unwrap();
    assert!(matches!(models.get(tenant, &name()).await, Err(RegistryError::NotFound(_))));
    assert!(registry.artifacts.get(tenant, &Digest::of(DIGITS)).await.is_ok(), "another model is made of it");
    assert!(registry.artifacts.get(tenant, &Digest::of(&digits_again())).await.is_err(), "nothing is made of it");
    assert_eq!(registry.upload(&registry.alice, &digits_again()).await, Digest::of(&digits_again()));
}

async fn models_are_listed_by_name_and_found_by_text(db: Db) {
    let registry = with_model(db).await;
    let (tenant, models) = (registry.alice.tenant, &registry.models);
    for (name, description) in [("magika", "File types"), ("silero-vad", "Voice"), ("a_b", "Underscore")] {
        models.create(&registry.alice, create(name, description)).await.unwrap();
    }
    let names = async |search: &str, after: &str, limit| -> Vec<String> {
        models.list(tenant, search, after, limit).await.unwrap().into_iter().map(|row| row.name.to_string()).collect()
    };
    assert_eq!(names("", "", 10).await, ["a_b", "digits", "magika", "silero-vad"]);
    assert_eq!(names("", "digits", 1).await, ["magika"]);
    assert_eq!(names("FILE", "", 10).await, ["magika"]);
    assert_eq!(names("ag", "", 10).await, ["magika"]);
    assert_eq!(names("_", "", 10).await, ["a_b"]);
    assert_eq!(names("100%", "", 10).await, ["digits"]);
    assert!(names("\\", "", 10).await.is_empty());
    let taken = models.create(&registry.alice, create("magika", "")).await;
    assert!(matches!(taken, Err(RegistryError::Conflict(_))));
}

async fn tenants_see_only_their_own_models(db: Db) {
    let registry = with_model(db).await;
    push(&registry, DIGITS).await;
    let (mallory, models) = (&registry.mallory, &registry.models);
    assert!(models.list(mallory.tenant, "", "", 10).await.unwrap().is_empty());
    assert!(models.get(mallory.tenant, &name()).await.is_err());
    assert!(models.resolve(mallory.tenant, "digits@1").await.is_err());
    assert!(models.delete(mallory, &name()).await.is_err());
    models.create(mallory, create("digits", "")).await.unwrap();
    // A digest alone opens nothing: the bytes have to be sent.
    let stolen = models.register(mallory, &name(), request(Digest::of(DIGITS))).await;
    assert!(matches!(stolen, Err(RegistryError::NotFound(_))));
}
