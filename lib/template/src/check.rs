//! What Go refuses when it parses: functions and variables that are not there.

use crate::TemplateError;
use crate::builtins;
use crate::parser::{Node, NodeKind, Operand, Pipeline};
use crate::value::Functions;

/// Walks a body; `variables` are those that are there from the start.
pub fn check(name: &str, body: &[Node], functions: &Functions, variables: &[&str]) -> Result<(), TemplateError> {
    let mut scope: Vec<String> = variables.iter().map(|name| (*name).to_owned()).collect();
    scope.push(String::new());
    Checker { name, functions }.nodes(body, &mut scope)
}

struct Checker<'a> {
    name: &'a str,
    functions: &'a Functions,
}

type Scope = Vec<String>;

impl Checker<'_> {
    /// Variables declared in a list of nodes end with it.
    fn nodes(&self, nodes: &[Node], scope: &mut Scope) -> Result<(), TemplateError> {
        let known = scope.len();
        for node in nodes {
            let place = |message: String| {
                let (name, line, column) = (self.name.to_owned(), node.line, node.column);
                TemplateError { name, line, column, message }
            };
            self.node(node, scope, &place)?;
        }
        scope.truncate(known);
        Ok(())
    }

    fn node(
        &self,
        node: &Node,
        scope: &mut Scope,
        place: &dyn Fn(String) -> TemplateError,
    ) -> Result<(), TemplateError> {
        let (pipeline, bodies) = match &node.kind {
            NodeKind::Text(_) | NodeKind::Break | NodeKind::Continue | NodeKind::Template { argument: None, .. } => {
                return Ok(());
            }
            NodeKind::Print(pipeline) | NodeKind::Template { argument: Some(pipeline), .. } => {
                return self.pipeline(pipeline, scope).map_err(place);
            }
            NodeKind::If { condition, then, otherwise } => (condition, [then, otherwise]),
            NodeKind::With { value, then, otherwise } => (value, [then, otherwise]),
            NodeKind::Range { over, body, otherwise } => (over, [body, otherwise]),
        };
        let known = scope.len();
        self.pipeline(pipeline, scope).map_err(place)?;
        for body in bodies {
            self.nodes(body, scope)?;
        }
        scope.truncate(known);
        Ok(())
    }

    fn pipeline(&self, pipeline: &Pipeline, scope: &mut Scope) -> Result<(), String> {
        for operand in pipeline.commands.iter().flatten() {
            self.operand(operand, scope)?;
        }
        for name in &pipeline.variables {
            match pipeline.is_declaration {
                true => scope.push(name.clone()),
                false => self.variable(name, scope)?,
            }
        }
        Ok(())
    }

    fn operand(&self, operand: &Operand, scope: &mut Scope) -> Result<(), String> {
        match operand {
            Operand::Dot | Operand::Literal(_) => Ok(()),
            Operand::Function(name) => {
                let is_there = self.functions.get(name).is_some() || builtins::exists(name);
                if is_there { Ok(()) } else { Err(format!("function {name:?} not defined")) }
            }
            Operand::Variable(name) => self.variable(name, scope),
            Operand::Parenthesised(pipeline) => self.pipeline(pipeline, scope),
            Operand::Member(holder, _) => self.operand(holder, scope),
        }
    }

    fn variable(&self, name: &str, scope: &Scope) -> Result<(), String> {
        let is_there = scope.iter().any(|known| known == name);
        if is_there { Ok(()) } else { Err(format!("undefined variable: ${name}")) }
    }
}
