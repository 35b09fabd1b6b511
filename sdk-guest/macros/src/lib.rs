//! The macro behind `caisson_sdk::plugin!`.
//!
//! Deliberately absent: anything that runs in the guest. The macro checks names and writes glue, and the rest is plain code in the
//! sdk that can be read and tested.

use std::collections::BTreeSet;
use std::path::Path;

use proc_macro::TokenStream;
use proc_macro2::Span;
use quote::quote_spanned;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Ident, LitStr, Path as RustPath, Token, Type};
use toml::de::DeTable;

const MANIFEST: &str = "caisson-plugin.toml";

/// Makes the crate a plugin: `plugin!(echo, "wait-for" => wait_for)`.
///
/// Lists the functions behind the actions of `caisson-plugin.toml`; a bare name is both the action's name and the function's. First may
/// stand `config = Type`, the type that is read with `Context::config`, for the schemas that `caisson plugin build` derives. The
/// manifest is embedded as the custom section `caisson:manifest`. That manifest and list name the same actions is checked here, so
/// that a forgotten action is an error of the compiler and not of a run.
#[proc_macro]
pub fn plugin(input: TokenStream) -> TokenStream {
    let actions = syn::parse_macro_input!(input as Actions);
    expand(&actions).unwrap_or_else(|e| e.to_compile_error()).into()
}

struct Actions {
    config: Option<Type>,
    actions: Vec<Action>,
}

struct Action {
    name: String,
    span: Span,
    function: RustPath,
}

impl Parse for Actions {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let config = if input.peek(Ident) && input.peek2(Token![=]) && !input.peek2(Token![=>]) {
            let name: Ident = input.parse()?;
            if name != "config" {
                return Err(syn::Error::new(name.span(), "only `config = Type` may stand here"));
            }
            input.parse::<Token![=]>()?;
            let config = input.parse()?;
            input.parse::<Token![,]>()?;
            Some(config)
        } else {
            None
        };
        let actions = Punctuated::<Action, Token![,]>::parse_terminated(input)?.into_iter().collect();
        Ok(Self { config, actions })
    }
}

impl Parse for Action {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        if input.peek(LitStr) {
            let name: LitStr = input.parse()?;
            input.parse::<Token![=>]>()?;
            Ok(Self { name: name.value(), span: name.span(), function: input.parse()? })
        } else {
            let name: Ident = input.parse()?;
            Ok(Self { name: name.to_string(), span: name.span(), function: name.into() })
        }
    }
}

fn expand(actions: &Actions) -> syn::Result<proc_macro2::TokenStream> {
    let here = Span::call_site();
    let root = std::env::var("CARGO_MANIFEST_DIR")
        .map_err(|e| syn::Error::new(here, format!("CARGO_MANIFEST_DIR is not set: {e}")))?;
    let path = Path::new(&root).join(MANIFEST);
    let text = std::fs::read_to_string(&path)
        .map_err(|e| syn::Error::new(here, format!("failed to read {}: {e}", path.display())))?;
    check(actions, &text)?;

    let names: Vec<_> = actions.actions.iter().map(|action| &action.name).collect();
    let functions: Vec<_> = actions.actions.iter().map(|action| &action.function).collect();
    // Hygienic: an action's function may have the name of a variable in here.
    let hidden = Span::mixed_site();
    let config =
        actions.config.as_ref().map(|config| quote_spanned!(hidden=> let schemas = schemas.config::<#config>();));
    let file = path.to_string_lossy();
    Ok(quote_spanned! {hidden=>
        #[allow(unsafe_code, missing_docs, unused_qualifications, clippy::pedantic)]
        const _: () = {
            struct CaissonPlugin;

            impl ::caisson_sdk::__private::Guest for CaissonPlugin {
                fn execute(
                    call: ::caisson_sdk::__private::Invocation,
                ) -> ::core::result::Result<::caisson_sdk::__private::WireOutcome, ::caisson_sdk::__private::WireFailure> {
                    ::caisson_sdk::__private::enter(
                        call,
                        |context, input| match context.action() {
                            #(#names => ::core::option::Option::Some(::caisson_sdk::__private::call(#functions, context, input)),)*
                            _ => ::core::option::Option::None,
                        },
                        || {
                            let schemas = ::caisson_sdk::__private::Schemas::default();
                            #(let schemas = ::caisson_sdk::__private::describe(schemas, #names, #functions);)*
                            #config
                            schemas
                        },
                    )
                }
            }

            #[cfg(target_arch = "wasm32")]
            ::caisson_sdk::__private::bindings::export!(CaissonPlugin with_types_in ::caisson_sdk::__private::bindings);

            const BYTES: &[u8] = ::core::include_bytes!(#file);

            #[cfg(target_arch = "wasm32")]
            #[used]
            #[unsafe(link_section = "caisson:manifest")]
            static MANIFEST: [u8; BYTES.len()] = *::core::include_bytes!(#file);

            // Built for the host (by `cargo check` and by tests) there is nothing to export: only use what would be.
            #[cfg(not(target_arch = "wasm32"))]
            const _: (
                &[u8],
                fn(
                    ::caisson_sdk::__private::Invocation,
                ) -> ::core::result::Result<::caisson_sdk::__private::WireOutcome, ::caisson_sdk::__private::WireFailure>,
            ) = (BYTES, <CaissonPlugin as ::caisson_sdk::__private::Guest>::execute);
        };
    })
}

/// Manifest and list name the same actions.
fn check(actions: &Actions, text: &str) -> syn::Result<()> {
    let here = Span::call_site();
    let manifest = DeTable::parse(text).map_err(|e| syn::Error::new(here, format!("{MANIFEST}: {e}")))?;
    let declared: BTreeSet<&str> = manifest
        .get_ref()
        .get("actions")
        .and_then(|actions| actions.get_ref().as_array())
        .into_iter()
        .flat_map(|actions| actions.iter())
        .filter_map(|action| action.get_ref().get("name")?.get_ref().as_str())
        .collect();
    let mut listed = BTreeSet::new();
    for action in &actions.actions {
        if !declared.contains(action.name.as_str()) {
            let message = format!("{MANIFEST} has no action '{}'", action.name);
            return Err(syn::Error::new(action.span, message));
        }
        if !listed.insert(action.name.as_str()) {
            return Err(syn::Error::new(action.span, format!("action '{}' is listed twice", action.name)));
        }
    }
    match declared.difference(&listed).next() {
        Some(missing) => Err(syn::Error::new(here, format!("action '{missing}' of {MANIFEST} has no function"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "actions = [{name = 'post'}, {name = 'wait_for'}]";

    fn checked(list: &str, manifest: &str) -> Result<(), String> {
        let actions: Actions = syn::parse_str(list).map_err(|e| e.to_string())?;
        check(&actions, manifest).map_err(|e| e.to_string())
    }

    #[test]
    fn the_list_and_the_manifest_name_the_same_actions() {
        for (list, expected) in [
            ("post, wait_for", Ok(())),
            ("post, \"wait_for\" => inner::wait,", Ok(())),
            ("config = Config<'static>, post, wait_for", Ok(())),
            ("post", Err("action 'wait_for' of caisson-plugin.toml has no function")),
            ("post, wait_for, other", Err("caisson-plugin.toml has no action 'other'")),
            ("post, post, wait_for", Err("action 'post' is listed twice")),
            ("settings = Config, post, wait_for", Err("only `config = Type` may stand here")),
        ] {
            assert_eq!(checked(list, TWO), expected.map_err(str::to_owned), "{list}");
        }
        assert!(checked("post", "actions = [").is_err_and(|e| e.starts_with("caisson-plugin.toml: ")));
    }

    #[test]
    fn an_action_may_be_called_config() {
        let actions: Actions = syn::parse_str("config").expect("a list");
        assert!(actions.config.is_none());
        assert_eq!(actions.actions[0].name, "config");
    }
}
