//! The description of the surface, generated from the routes.

use std::sync::OnceLock;

use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde_json::Value;
use utoipa::OpenApi as _;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, ResponseBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AppState;
use super::error::ErrorBody;
use super::wire::Validation;

/// The name of the scheme by which a key is sent.
const SCHEME: &str = "key";

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(document))
}

/// This document. No key needed.
#[utoipa::path(
    get, path = "/openapi.json", tag = "health", security(()),
    responses((status = 200, description = "OpenAPI 3.1.", content_type = "application/json"))
)]
async fn document() -> impl IntoResponse {
    static TEXT: OnceLock<String> = OnceLock::new();
    let text = TEXT.get_or_init(|| mended(&super::description()).to_string());
    ([(header::CONTENT_TYPE, "application/json")], text.as_str())
}

/// What the routes are added to.
pub fn base() -> OpenApi {
    #[derive(utoipa::OpenApi)]
    #[openapi(components(schemas(ErrorBody, Validation)))]
    struct Shared;

    let info = InfoBuilder::new()
        .title("Caisson")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "A durable workflow engine. Lists page with `limit` and `cursor`, newest first. Times are RFC 3339 UTC, durations are \
             milliseconds. Every error is `{\"error\": {\"code\", \"message\", \"details\"}}`.",
        ))
        .build();
    let mut components = Shared::openapi().components.unwrap_or_default();
    components.add_security_scheme(
        SCHEME,
        SecurityScheme::Http(
            HttpBuilder::new()
                .scheme(HttpAuthScheme::Bearer)
                .description(Some("An API key. `x-api-key` is read too."))
                .build(),
        ),
    );
    OpenApiBuilder::new()
        .info(info)
        .components(Some(components))
        .security(Some([SecurityRequirement::new::<_, [&str; 0], &str>(SCHEME, [])]))
        .build()
}

/// Adds to every route what all of them have.
pub fn finish(mut document: OpenApi) -> OpenApi {
    let error = ResponseBuilder::new()
        .description("An error with a stable code.")
        .content("application/json", ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorBody"))).build())
        .build();
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
        for operation in operations.into_iter().flatten() {
            for (status, response) in &mut operation.responses.responses {
                if let RefOr::T(response) = response
                    && response.description.is_empty()
                {
                    let status = status.parse().ok().and_then(|status| StatusCode::from_u16(status).ok());
                    response.description = status.and_then(|status| status.canonical_reason()).unwrap_or("Done").into();
                }
            }
            operation.responses.responses.insert("default".to_owned(), RefOr::T(error.clone()));
        }
    }
    document
}

/// The document with optional values of any kind as what they are: `null` is such a value, and would be two of one.
fn mended(document: &OpenApi) -> Value {
    fn mend(value: &mut Value) {
        match value {
            Value::Object(map) => {
                let is_any = |one: &Value| one["$ref"] == "#/components/schemas/Any";
                let of = map.get("oneOf").and_then(Value::as_array);
                if let Some(Value::Object(any)) = of.and_then(|of| of.iter().find(|one| is_any(one))).cloned() {
                    map.remove("oneOf");
                    map.extend(any);
                }
                map.values_mut().for_each(mend);
            }
            Value::Array(list) => list.iter_mut().for_each(mend),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut document = serde_json::to_value(document).unwrap_or_default();
    mend(&mut document);
    document
}

/// Every route of the document as `METHOD path`.
#[cfg(test)]
pub fn listed(document: &OpenApi) -> Vec<(String, String)> {
    let mut listed = Vec::new();
    for (path, item) in &document.paths.paths {
        for (method, operation) in
            [("GET", &item.get), ("PUT", &item.put), ("POST", &item.post), ("DELETE", &item.delete)]
        {
            if operation.is_some() {
                listed.push((method.to_owned(), path.clone()));
            }
        }
    }
    listed
}
