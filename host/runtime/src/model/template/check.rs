//! What a body may say, asked of the whole of it before it is used; and the two things that are put into it: every value goes through a
//! helper of ours, every loop counts its turns.

use handlebars::template::{BlockParam, HelperTemplate, Parameter, TemplateElement};
use handlebars::{Path, Template};

use super::Fault;
use super::helpers::{ROLES, STEP, VALUE};

/// Blocks, and how many values each takes.
const BLOCKS: &[(&str, usize)] =
    &[("if", 1), ("unless", 1), ("each", 1), ("with", 1), ("ifEquals", 2), ("unlessEquals", 2)];
/// What writes, and is no variable.
const WRITERS: &[&str] = &["role", "json"];
/// What dotprompt has beside these, and why it is not here.
const ABSENT: &[(&str, &str)] = &[
    ("history", "an agent begins without one"),
    ("media", "prompts are text"),
    ("section", "prompts have no sections"),
    ("lookup", "write the path"),
    ("log", "a prompt does nothing"),
    ("raw", "prompts have no raw blocks"),
];

/// Refuses what cannot be rendered, and prepares the rest.
pub(super) fn check(template: &mut Template) -> Result<(), Fault> {
    let step = Template::compile(&format!("{{{{{STEP} 0}}}}")).map_err(|error| super::unread(&error))?;
    Check { step }.body(template)
}

struct Check {
    /// What counts a turn.
    step: Template,
}

impl Check {
    fn body(&self, template: &mut Template) -> Result<(), Fault> {
        for (element, at) in template.elements.iter_mut().zip(&template.mapping) {
            let done = match element {
                TemplateElement::RawString(_) | TemplateElement::Comment(_) => Ok(()),
                TemplateElement::Expression(tag) | TemplateElement::HtmlExpression(tag) => expression(tag),
                TemplateElement::HelperBlock(tag) => self.block(tag)?,
                TemplateElement::PartialExpression(_) | TemplateElement::PartialBlock(_) => {
                    Err("partials ('{{>') are not supported in prompts".to_owned())
                }
                TemplateElement::DecoratorExpression(_) | TemplateElement::DecoratorBlock(_) => {
                    Err("decorators ('{{*') are not supported in prompts".to_owned())
                }
                // The library's enum may grow: what it does not name here cannot be rendered.
                _ => Err("a tag that prompts do not have".to_owned()),
            };
            done.map_err(|message| Fault { line: at.0, column: at.1, message })?;
        }
        Ok(())
    }

    /// The outer error has its place already.
    fn block(&self, tag: &mut HelperTemplate) -> Result<Result<(), String>, Fault> {
        if let Err(message) = opening(tag) {
            return Ok(Err(message));
        }
        let is_each = name(&tag.name) == "each";
        for body in [&mut tag.template, &mut tag.inverse].into_iter().flatten() {
            self.body(body)?;
        }
        if let Some(body) = tag.template.as_mut().filter(|_| is_each) {
            for (element, at) in self.step.elements.iter().zip(&self.step.mapping) {
                body.elements.insert(0, element.clone());
                body.mapping.insert(0, at.clone());
            }
        }
        Ok(Ok(()))
    }
}

/// `{{…}}`.
fn expression(tag: &mut HelperTemplate) -> Result<(), String> {
    let name = name(&tag.name);
    if let Some((_, why)) = ABSENT.iter().find(|(absent, _)| *absent == name) {
        return Err(format!("'{name}' is not supported in prompts: {why}"));
    }
    if tag.params.is_empty() && tag.hash.is_empty() {
        if WRITERS.contains(&&*name) {
            return Err(format!("'{name}' has to be followed by what it is about"));
        }
        if BLOCKS.iter().any(|(block, _)| *block == name) {
            return Err(format!("'{name}' begins a block: write '{{{{#{name} …}}}}'"));
        }
        let path = match std::mem::replace(&mut tag.name, Parameter::Name(VALUE.to_owned())) {
            Parameter::Path(path) => path,
            Parameter::Name(name) => Path::parse(&name).map_err(|error| error.reason().to_string())?,
            _ => return Err("a tag begins with a name".to_owned()),
        };
        tag.params = vec![Parameter::Path(path)];
        return Ok(());
    }
    match name.as_str() {
        "role" => role(tag),
        "json" => takes(tag, "json", 1),
        _ => Err(unknown(&name, "helper", WRITERS.iter().copied())),
    }
}

fn role(tag: &HelperTemplate) -> Result<(), String> {
    takes(tag, "role", 1)?;
    let names = || ROLES.iter().map(|(name, _)| *name);
    match &tag.params[..] {
        [Parameter::Literal(serde_json::Value::String(role))] if names().any(|known| known == role) => Ok(()),
        [Parameter::Literal(serde_json::Value::String(role))] => Err(unknown(role, "role", names())),
        _ => Err("a role is written out: {{role \"system\"}}".to_owned()),
    }
}

/// `{{#…}}`.
fn opening(tag: &HelperTemplate) -> Result<(), String> {
    let name = name(&tag.name);
    if let Some((_, why)) = ABSENT.iter().find(|(absent, _)| *absent == name) {
        return Err(format!("'{name}' is not supported in prompts: {why}"));
    }
    let Some((_, values)) = BLOCKS.iter().find(|(block, _)| *block == name) else {
        return Err(unknown(&name, "block", BLOCKS.iter().map(|(block, _)| *block)));
    };
    if let Some(BlockParam::Single(_) | BlockParam::Pair(_)) = &tag.block_param
        && !matches!(&*name, "each" | "with")
    {
        return Err(format!("'{name}' gives no names with 'as'"));
    }
    takes(tag, &name, *values)
}

fn takes(tag: &HelperTemplate, name: &str, values: usize) -> Result<(), String> {
    if !tag.hash.is_empty() {
        return Err(format!("'{name}' takes no settings"));
    }
    if tag.params.len() != values {
        let plural = if values == 1 { "" } else { "s" };
        return Err(format!("'{name}' takes {values} value{plural}, not {}", tag.params.len()));
    }
    Ok(())
}

fn name(parameter: &Parameter) -> String {
    match parameter {
        Parameter::Name(name) => name.clone(),
        Parameter::Path(Path::Relative((_, raw)) | Path::Local((_, _, raw))) => raw.clone(),
        Parameter::Literal(value) => value.to_string(),
        _ => "(…)".to_owned(),
    }
}

fn unknown<'a>(name: &str, what: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let list = known.clone().collect::<Vec<_>>().join(", ");
    match super::helpers::nearest(name, known) {
        Some(near) => format!("there is no {what} '{name}': did you mean '{near}'?"),
        None => format!("there is no {what} '{name}' in prompts (there are: {list})"),
    }
}
