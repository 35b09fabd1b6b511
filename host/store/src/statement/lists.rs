//! Lists: each combination of filters is a text of its own, so that the planner sees what it may use.

/// Where databases differ in them.
pub(crate) struct Words {
    /// Before a column that no index may be chosen for.
    pub off_index: &'static str,
    /// The texts of the JSON array $4, for `IN`.
    pub among: &'static str,
}

/// Which filters a list of runs has. Each combination is a text of its own, so that the planner sees what it may use; the numbers of the
/// parameters are always the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RunsShape {
    pub environment: bool,
    pub workflow: bool,
    pub statuses: Statuses,
    pub project: bool,
    pub parent: bool,
    pub cursor: bool,
}

/// How many statuses a filter names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Statuses {
    #[default]
    Any,
    One,
    Several,
}

/// $1 tenant, $2 environment, $3 workflow, $4 status or JSON array of statuses, $5 project, $6 parent, $7 and $8 the cursor, $9 limit.
pub(crate) fn runs(shape: RunsShape, words: &Words) -> String {
    let several = format!(" AND {}status IN {}", words.off_index, words.among);
    let mut sql = String::from(concat!("SELECT ", run_columns!(), " FROM runs WHERE tenant = $1"));
    for (used, text) in [
        (shape.environment, " AND environment = $2"),
        (shape.workflow, " AND workflow_id = $3"),
        (shape.statuses == Statuses::One, " AND status = $4"),
        // The plus keeps it off the index on the status, whose order would be that of several lists.
        (shape.statuses == Statuses::Several, several.as_str()),
        (shape.project, " AND project_id = $5"),
        (shape.parent, " AND parent_run = $6"),
        (shape.cursor, " AND (created_at, id) < ($7, $8)"),
    ] {
        if used {
            sql.push_str(text);
        }
    }
    sql.push_str(" ORDER BY created_at DESC, id DESC LIMIT $9");
    sql
}

/// Which filters a list of approvals has.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ApprovalsShape {
    pub environment: bool,
    pub run: bool,
    pub status: bool,
    pub cursor: bool,
}

/// $1 tenant, $2 environment, $3 run, $4 status, $5 and $6 the cursor, $7 limit.
pub(crate) fn approvals(shape: ApprovalsShape) -> String {
    let mut sql = String::from(concat!("SELECT ", approval_columns!(), " FROM approvals WHERE tenant = $1"));
    for (used, text) in [
        (shape.environment, " AND environment = $2"),
        (shape.run, " AND run_id = $3"),
        (shape.status, " AND status = $4"),
        (shape.cursor, " AND (created_at, id) < ($5, $6)"),
    ] {
        if used {
            sql.push_str(text);
        }
    }
    sql.push_str(" ORDER BY created_at DESC, id DESC LIMIT $7");
    sql
}

/// Which filters a list of business events has.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct EmittedShape {
    pub environment: bool,
    pub run: bool,
    pub name: bool,
}

/// $1 tenant, $2 environment, $3 run, $4 name, $5 and $6 the cursor, $7 limit. A plus keeps a column off the indexes: the narrowest filter
/// chooses.
pub(crate) fn emitted(shape: EmittedShape, words: &Words) -> String {
    let off = words.off_index;
    let EmittedShape { environment, run, name } = shape;
    let mut sql = String::from(concat!("SELECT ", emitted_columns!(), " FROM emitted_events WHERE "));
    if run {
        sql.push_str("run_id = $3 AND ");
        sql.push_str(off);
    }
    sql.push_str("tenant = $1");
    for (used, chooses, text) in [(name, !run, "name = $4"), (environment, !run && !name, "environment = $2")] {
        if used {
            sql.push_str(" AND ");
            sql.push_str(if chooses { "" } else { off });
            sql.push_str(text);
        }
    }
    sql.push_str(" AND (at, number) < ($5, $6) ORDER BY at DESC, number DESC LIMIT $7");
    sql
}
