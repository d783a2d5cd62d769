//! Runs a tree.

use std::collections::HashMap;
use std::sync::Arc;

use crate::builtins;
use crate::parser::{Node, NodeKind, Operand, Pipeline};
use crate::value::{Functions, Value};
use crate::{MAX_OUTPUT_BYTES, Mode, TemplateError};

const MAX_STEPS: usize = 1_000_000;
const MAX_CALL_DEPTH: usize = 100;

pub fn run(
    bodies: &HashMap<String, Arc<Vec<Node>>>,
    name: &str,
    dot: &Value,
    functions: &Functions,
    locals: &[(&str, Value)],
    mode: Mode,
) -> Result<String, TemplateError> {
    let mut run = Run {
        bodies,
        functions,
        locals,
        mode,
        output: String::new(),
        steps: 0,
        depth: 0,
        name: name.to_owned(),
        place: (1, 1),
    };
    match run.call(name, dot) {
        Ok(()) => Ok(run.output),
        Err(message) => {
            let (line, column) = run.place;
            Err(TemplateError { name: run.name, line, column, message })
        }
    }
}

struct Run<'a> {
    bodies: &'a HashMap<String, Arc<Vec<Node>>>,
    functions: &'a Functions,
    locals: &'a [(&'a str, Value)],
    mode: Mode,
    output: String,
    steps: usize,
    depth: usize,
    /// The template and node being run, for errors.
    name: String,
    place: (usize, usize),
}

/// The variables in sight and the dot.
struct Scope {
    variables: Vec<(String, Value)>,
    dot: Value,
}

/// How a list of nodes ended.
#[derive(PartialEq)]
enum Flow {
    Next,
    Break,
    Continue,
}

impl Run<'_> {
    fn call(&mut self, name: &str, dot: &Value) -> Result<(), String> {
        let Some(body) = self.bodies.get(name).cloned() else { return Err(format!("template {name:?} not defined")) };
        self.depth += 1;
        if self.depth > MAX_CALL_DEPTH {
            return Err(format!("exceeded maximum template depth ({MAX_CALL_DEPTH})"));
        }
        let caller = std::mem::replace(&mut self.name, name.to_owned());
        let mut scope = Scope { variables: vec![(String::new(), dot.clone())], dot: dot.clone() };
        self.nodes(&body, &mut scope)?;
        self.name = caller;
        self.depth -= 1;
        Ok(())
    }

    fn step(&mut self) -> Result<(), String> {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return Err(format!("more than {MAX_STEPS} steps"));
        }
        Ok(())
    }

    fn print(&mut self, text: &str) -> Result<(), String> {
        if self.output.len() + text.len() > MAX_OUTPUT_BYTES {
            return Err(format!("more than {MAX_OUTPUT_BYTES} bytes of output"));
        }
        self.output.push_str(text);
        Ok(())
    }

    fn nodes(&mut self, nodes: &[Node], scope: &mut Scope) -> Result<Flow, String> {
        let variables = scope.variables.len();
        for node in nodes {
            self.step()?;
            self.place = (node.line, node.column);
            let flow = self.node(node, scope)?;
            if flow != Flow::Next {
                scope.variables.truncate(variables);
                return Ok(flow);
            }
        }
        scope.variables.truncate(variables);
        Ok(Flow::Next)
    }

    fn node(&mut self, node: &Node, scope: &mut Scope) -> Result<Flow, String> {
        match &node.kind {
            NodeKind::Text(text) => self.print(text)?,
            NodeKind::Print(pipeline) => {
                let value = self.pipeline(pipeline, scope)?;
                if pipeline.variables.is_empty() {
                    let text = self.shown(&value);
                    self.print(&text)?;
                }
            }
            NodeKind::If { condition, then, otherwise } => {
                return self.scoped(scope, |run, scope| {
                    let value = run.pipeline(condition, scope)?;
                    run.nodes(if value.is_true() { then } else { otherwise }, scope)
                });
            }
            NodeKind::With { value, then, otherwise } => {
                return self.scoped(scope, |run, scope| {
                    let value = run.pipeline(value, scope)?;
                    match value.is_true() {
                        true => run.with_dot(value, scope, |run, scope| run.nodes(then, scope)),
                        false => run.nodes(otherwise, scope),
                    }
                });
            }
            NodeKind::Range { over, body, otherwise } => {
                return self.scoped(scope, |run, scope| run.range(over, body, otherwise, scope));
            }
            NodeKind::Template { name, argument } => {
                let dot = argument.as_ref().map_or(Ok(Value::Nil), |argument| self.pipeline(argument, scope))?;
                self.call(name, &dot)?;
            }
            NodeKind::Break => return Ok(Flow::Break),
            NodeKind::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    /// Variables declared inside are gone afterwards.
    fn scoped<T>(
        &mut self,
        scope: &mut Scope,
        inside: impl FnOnce(&mut Self, &mut Scope) -> Result<T, String>,
    ) -> Result<T, String> {
        let variables = scope.variables.len();
        let result = inside(self, scope);
        scope.variables.truncate(variables);
        result
    }

    fn with_dot<T>(
        &mut self,
        dot: Value,
        scope: &mut Scope,
        inside: impl FnOnce(&mut Self, &mut Scope) -> Result<T, String>,
    ) -> Result<T, String> {
        let outer = std::mem::replace(&mut scope.dot, dot);
        let result = inside(self, scope);
        scope.dot = outer;
        result
    }

    fn range(&mut self, over: &Pipeline, body: &[Node], otherwise: &[Node], scope: &mut Scope) -> Result<Flow, String> {
        let collection = self.value_of(over, scope)?;
        let entries = match &collection {
            Value::Int(count) => (0..(*count).min(MAX_STEPS as i64)).map(|i| (Value::Int(i), Value::Int(i))).collect(),
            other => other.entries().ok_or_else(|| format!("range can't iterate over {}", other.print()))?,
        };
        if entries.is_empty() {
            return self.nodes(otherwise, scope);
        }
        for (key, value) in entries {
            self.step()?;
            let flow = self.scoped(scope, |run, scope| {
                match over.variables.as_slice() {
                    [] => {}
                    [only] => scope.variables.push((only.clone(), value.clone())),
                    [first, second, ..] => {
                        scope.variables.push((first.clone(), key));
                        scope.variables.push((second.clone(), value.clone()));
                    }
                }
                run.with_dot(value, scope, |run, scope| run.nodes(body, scope))
            })?;
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::Next)
    }

    /// How a printed value looks in this mode.
    fn shown(&self, value: &Value) -> String {
        match (self.mode, value) {
            (Mode::Html, Value::Safe(text)) => text.clone(),
            (Mode::Html, other) => builtins::escape_html(&other.print()),
            (Mode::Text, Value::Nil) => "<no value>".to_owned(),
            (Mode::Text, other) => other.print(),
        }
    }

    fn pipeline(&mut self, pipeline: &Pipeline, scope: &mut Scope) -> Result<Value, String> {
        let value = self.value_of(pipeline, scope)?;
        for name in &pipeline.variables {
            if pipeline.is_declaration {
                scope.variables.push((name.clone(), value.clone()));
                continue;
            }
            let slot = scope.variables.iter_mut().rev().find(|(known, _)| known == name);
            slot.ok_or_else(|| format!("undefined variable: ${name}"))?.1 = value.clone();
        }
        Ok(value)
    }

    fn value_of(&mut self, pipeline: &Pipeline, scope: &mut Scope) -> Result<Value, String> {
        let mut piped = None;
        for command in &pipeline.commands {
            self.step()?;
            piped = Some(self.command(command, piped, scope)?);
        }
        piped.ok_or_else(|| "empty pipeline".to_owned())
    }

    fn command(&mut self, command: &[Operand], piped: Option<Value>, scope: &mut Scope) -> Result<Value, String> {
        let [first, rest @ ..] = command else { return Err("empty command".to_owned()) };
        match first {
            Operand::Function(name) => self.function(name, rest, piped, scope),
            Operand::Member(holder, name) => {
                let holder = self.operand(holder, scope)?;
                let arguments = self.arguments(rest, piped, scope)?;
                member(&holder, name, &arguments)
            }
            other if rest.is_empty() && piped.is_none() => self.operand(other, scope),
            _ => Err("can't give argument to non-function".to_owned()),
        }
    }

    fn arguments(
        &mut self,
        operands: &[Operand],
        piped: Option<Value>,
        scope: &mut Scope,
    ) -> Result<Vec<Value>, String> {
        let mut arguments = Vec::with_capacity(operands.len() + 1);
        for operand in operands {
            arguments.push(self.operand(operand, scope)?);
        }
        arguments.extend(piped);
        Ok(arguments)
    }

    fn function(
        &mut self,
        name: &str,
        operands: &[Operand],
        piped: Option<Value>,
        scope: &mut Scope,
    ) -> Result<Value, String> {
        // `and` and `or` stop at the first operand that decides.
        if matches!(name, "and" | "or") {
            let mut last = None;
            for operand in operands {
                let value = self.operand(operand, scope)?;
                if value.is_true() == (name == "or") {
                    return Ok(value);
                }
                last = Some(value);
            }
            return piped.or(last).ok_or_else(|| format!("wrong number of args for {name}: want at least 1 got 0"));
        }
        if let Some((_, value)) = self.locals.iter().find(|(known, _)| *known == name) {
            return Ok(value.clone());
        }
        let arguments = self.arguments(operands, piped, scope)?;
        let result = match self.functions.get(name) {
            Some(function) => function(&arguments),
            None => builtins::call(name, &arguments).ok_or_else(|| format!("function {name:?} not defined"))?,
        };
        result.map_err(|message| format!("error calling {name}: {message}"))
    }

    fn operand(&mut self, operand: &Operand, scope: &mut Scope) -> Result<Value, String> {
        match operand {
            Operand::Dot => Ok(scope.dot.clone()),
            Operand::Literal(value) => Ok(value.clone()),
            Operand::Function(name) => self.function(name, &[], None, scope),
            Operand::Variable(name) => {
                let found = scope.variables.iter().rev().find(|(known, _)| known == name);
                found.map(|(_, value)| value.clone()).ok_or_else(|| format!("undefined variable: ${name}"))
            }
            Operand::Parenthesised(pipeline) => self.pipeline(pipeline, scope),
            Operand::Member(holder, name) => {
                let holder = self.operand(holder, scope)?;
                member(&holder, name, &[])
            }
        }
    }
}

/// A field, a map's key or a method. A missing key is the zero value (`missingkey=zero`).
fn member(holder: &Value, name: &str, arguments: &[Value]) -> Result<Value, String> {
    match holder {
        Value::Map(items) => Ok(items.get(name).cloned().unwrap_or_else(|| "".into())),
        Value::Object(object) => object
            .member(name, arguments)
            .ok_or_else(|| format!("can't evaluate field {name} in {}", object.print()))?,
        Value::Nil => Err(format!("nil data; no entry for key {name:?}")),
        other => Err(format!("can't evaluate field {name} in type {}", other.kind())),
    }
}
