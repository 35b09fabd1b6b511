//! `caisson keys …`

use clap::Subcommand;
use reqwest::Method;

use super::output::{Style, Table, clean, json_line, line, moment, or_dash};
use super::{Connection, Outcome};
use crate::api::api_keys::{ApiKeyList, CreateBody, CreatedAnswer};
use crate::api::auth::Role;
use crate::client::{Payload, segment};

#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// List keys.
    List {
        /// Whose [default: your own].
        #[arg(long, value_name = "NAME")]
        tenant: Option<String>,
    },
    /// Make a key. It is shown once.
    Create {
        /// Who acts with it.
        actor: String,
        /// What it is for.
        #[arg(long, value_parser = Role::ALL.map(Role::as_str))]
        role: String,
        /// A team of the actor; may be repeated.
        #[arg(long = "team", value_name = "NAME")]
        teams: Vec<String>,
        /// The tenant [default: your own].
        #[arg(long, value_name = "NAME")]
        tenant: Option<String>,
    },
    /// Revoke a key.
    Revoke {
        /// Its id.
        id: String,
        /// Whose [default: your own].
        #[arg(long, value_name = "NAME")]
        tenant: Option<String>,
    },
}

pub async fn execute(command: KeysCommand, connection: &Connection) -> anyhow::Result<Outcome> {
    let client = connection.client()?;
    match command {
        KeysCommand::List { tenant } => {
            let text = client.send(Method::GET, "/api-keys", &of_tenant(tenant), Payload::Empty).await?;
            if connection.json {
                json_line(&text);
                return Ok(Outcome::Done);
            }
            let list: ApiKeyList = client.parse(&text)?;
            let mut table = Table::new(Style::stdout(), &["ID", "ACTOR", "ROLE", "TEAMS", "CREATED", "USED", "STATE"]);
            for key in &list.api_keys {
                let used = key.last_used_at.as_deref().map(moment);
                let state = if key.revoked_at.is_some() { "revoked" } else { "active" };
                table.row([
                    &key.id,
                    &key.actor,
                    &key.role,
                    or_dash(Some(&key.teams.join(", "))),
                    &moment(&key.created_at),
                    or_dash(used.as_deref()),
                    state,
                ]);
            }
            table.print();
        }
        KeysCommand::Create { actor, role, teams, tenant } => {
            let body = CreateBody { actor, role, teams, tenant };
            let text = client.send(Method::POST, "/api-keys", &[], Payload::json(&body)).await?;
            if connection.json {
                json_line(&text);
                return Ok(Outcome::Done);
            }
            let made: CreatedAnswer = client.parse(&text)?;
            line(&format!(
                "made key {} for {} ({})",
                clean(&made.api_key.id),
                clean(&made.api_key.actor),
                clean(&made.api_key.role)
            ));
            line("it is shown now and never again:");
            line(&clean(&made.key));
        }
        KeysCommand::Revoke { id, tenant } => {
            let path = format!("/api-keys/{}/revoke", segment(&id));
            client.send(Method::POST, &path, &of_tenant(tenant), Payload::Empty).await?;
            if !connection.json {
                line(&format!("revoked key {}", clean(&id)));
            }
        }
    }
    Ok(Outcome::Done)
}

fn of_tenant(tenant: Option<String>) -> Vec<(&'static str, String)> {
    tenant.into_iter().map(|tenant| ("tenant", tenant)).collect()
}
