//! The OpenAPI 3.1 document, made from the handlers, and the page that shows it. Assets are embedded: no CDN is asked.

use super::error::ApiError;
use aidos_protocol::api::Problem;
use aidos_protocol::api::problem::MEDIA_TYPE;
use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, RefOr, Response, ResponseBuilder};
use utoipa::{PartialSchema as _, ToSchema as _};
use utoipa_swagger_ui::{Config, SwaggerUi};

/// Where the document is served.
pub(crate) const DOCUMENT: &str = "/api/v1/openapi.json";
const SCHEME: &str = "api_key";

/// Adds to the handlers' document what is the same for all of them: who we are, keys, and the shape of errors. An operation
/// that needs no key says so itself, by `security(())`.
pub(crate) fn complete(mut document: OpenApi) -> OpenApi {
    document.info.title = "AI-DOS".into();
    document.info.version = env!("CARGO_PKG_VERSION").into();
    document.info.description = Some("Devices, models and deployments of one AI-DOS control plane.".into());
    document.info.license = Some(utoipa::openapi::License::new("Apache-2.0"));
    document.info.contact = None;
    let components = document.components.get_or_insert_default();
    components.schemas.insert(Problem::name().into(), Problem::schema());
    let bearer = Http::builder().scheme(HttpAuthScheme::Bearer).description(Some("An API key: aidos_…")).build();
    components.security_schemes.insert(SCHEME.into(), RefOr::T(SecurityScheme::Http(bearer)));
    for item in document.paths.paths.values_mut() {
        let methods = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch, &mut item.head];
        for operation in methods.into_iter().flatten() {
            complete_operation(operation);
        }
    }
    document
}

fn complete_operation(operation: &mut Operation) {
    operation.security.get_or_insert_with(|| vec![SecurityRequirement::new(SCHEME, Vec::<String>::new())]);
    let responses = &mut operation.responses.responses;
    let problem = || {
        let content = ContentBuilder::new().schema(Some(RefOr::Ref(utoipa::openapi::Ref::from_schema_name("Problem")))).build();
        ResponseBuilder::new().description("What went wrong").content(MEDIA_TYPE, content).build()
    };
    responses.entry("default".into()).or_insert_with(|| problem().into());
    for (status, response) in responses.iter_mut() {
        let RefOr::T(Response { description, .. }) = response else { continue };
        if description.is_empty() {
            *description = if status.starts_with('2') { "Done" } else { "What went wrong" }.into();
        }
    }
}

/// The document at [`DOCUMENT`] and the page at `/docs`.
pub(crate) fn router(document: &OpenApi) -> Result<Router, ApiError> {
    let json = Bytes::from(serde_json::to_vec(document).map_err(ApiError::internal)?);
    let page = SwaggerUi::new("/docs").config(Config::from(DOCUMENT).persist_authorization(false).use_base_layout());
    let document = get(move || {
        let json = json.clone();
        async move { ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], json).into_response() }
    });
    Ok(Router::new().route(DOCUMENT, document).merge(page))
}
