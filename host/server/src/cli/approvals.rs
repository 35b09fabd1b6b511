//! `caisson approvals …`

use anyhow::bail;
use clap::Subcommand;
use reqwest::Method;

use super::output::{Style, Table, clean, json_line, line, moment, or_dash, shorten};
use super::{Connection, Outcome};
use crate::api::approvals::{ApprovalAnswer, ApprovalList, DecisionBody};
use crate::api::wire::Approval;
use crate::client::{Client, Payload, segment};

/// Characters of a question in a table.
const MESSAGE_CHARS_MAX: usize = 80;

#[derive(Debug, Subcommand)]
pub enum ApprovalsCommand {
    /// List approvals, newest first.
    List {
        /// PENDING, APPROVED, REJECTED, `TIMED_OUT`, CANCELLED, or `all`.
        #[arg(long, default_value = "PENDING")]
        status: String,
    },
    /// Say yes.
    Approve {
        /// The approval's id, or its run's.
        id: String,
        /// For those who read the record later.
        #[arg(long, value_name = "TEXT")]
        comment: Option<String>,
    },
    /// Say no.
    Reject {
        /// The approval's id, or its run's.
        id: String,
        /// For those who read the record later.
        #[arg(long, value_name = "TEXT")]
        comment: Option<String>,
    },
}

pub async fn execute(command: ApprovalsCommand, connection: &Connection) -> anyhow::Result<Outcome> {
    let client = connection.client()?;
    match command {
        ApprovalsCommand::List { status } => list(&client, connection.json, &status).await,
        ApprovalsCommand::Approve { id, comment } => decide(&client, connection.json, &id, true, comment).await,
        ApprovalsCommand::Reject { id, comment } => decide(&client, connection.json, &id, false, comment).await,
    }
}

async fn list(client: &Client, json: bool, status: &str) -> anyhow::Result<Outcome> {
    let mut query = vec![("limit", "500".to_owned())];
    if status != "all" {
        query.push(("status", status.to_owned()));
    }
    let text = client.send(Method::GET, "/approvals", &query, Payload::Empty).await?;
    if json {
        json_line(&text);
        return Ok(Outcome::Done);
    }
    let list: ApprovalList = client.parse(&text)?;
    let mut table = Table::new(Style::stdout(), &["ID", "STATUS", "RUN", "ASKED", "APPROVERS", "BY", "QUESTION"]);
    for approval in &list.approvals {
        table.row([
            &approval.id,
            &approval.status,
            &approval.run_id,
            &moment(&approval.created_at),
            or_dash(Some(&approval.approvers.join(", "))),
            or_dash(approval.decided_by.as_deref()),
            &shorten(&approval.message, MESSAGE_CHARS_MAX),
        ]);
    }
    table.print();
    Ok(Outcome::Done)
}

async fn decide(
    client: &Client,
    json: bool,
    id: &str,
    approve: bool,
    comment: Option<String>,
) -> anyhow::Result<Outcome> {
    let approval = find(client, id).await?;
    let text = send(client, &approval, approve, comment).await?;
    if json {
        json_line(&text);
    } else {
        let ApprovalAnswer { approval } = client.parse(&text)?;
        line(&format!("approval {} is {}", clean(&approval.id), Style::stdout().status(&approval.status)));
    }
    Ok(Outcome::Done)
}

/// Sends a decision.
pub async fn send(
    client: &Client,
    approval: &Approval,
    approve: bool,
    comment: Option<String>,
) -> Result<String, crate::client::Error> {
    let verb = if approve { "approve" } else { "reject" };
    let path = format!("/workflow-runs/{}/approvals/{}/{verb}", segment(&approval.run_id), segment(&approval.id));
    client.send(Method::POST, &path, &[], Payload::json(&DecisionBody { comment })).await
}

/// The approval that is meant: by its id, or the only one that its run waits for.
async fn find(client: &Client, id: &str) -> anyhow::Result<Approval> {
    let mut cursor: Option<String> = None;
    let mut of_run = Vec::new();
    loop {
        let mut query = vec![("limit", "500".to_owned())];
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        let page: ApprovalList = client.get("/approvals", &query).await?;
        for approval in page.approvals {
            if approval.id == id {
                return Ok(approval);
            }
            if approval.run_id == id && approval.status == "PENDING" {
                of_run.push(approval);
            }
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    let id = clean(id);
    match (of_run.pop(), of_run.len()) {
        (Some(approval), 0) => Ok(approval),
        (Some(_), more) => bail!("run {id} waits for {} approvals: name one of them", more + 1),
        (None, _) => bail!("there is no approval {id}, and no run {id} that waits for one"),
    }
}
