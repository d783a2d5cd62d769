//! From tokens to a tree.

use crate::TemplateError;
use crate::lexer::{Placed, Token, lex};
use crate::value::Value;

const MAX_DEPTH: usize = 100;

/// A node with its place, for errors at run time.
#[derive(Debug, Clone)]
pub struct Node {
    pub kind: NodeKind,
    pub line: usize,
    pub column: usize,
}

#[derive(Debug, Clone)]
pub enum NodeKind {
    Text(String),
    /// A pipeline whose value is printed, unless it only declares.
    Print(Pipeline),
    If {
        condition: Pipeline,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    With {
        value: Pipeline,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Range {
        over: Pipeline,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Template {
        name: String,
        argument: Option<Pipeline>,
    },
    Break,
    Continue,
}

#[derive(Debug, Clone, Default)]
pub struct Pipeline {
    /// Variables set by `:=` or `=`; two only in `range $key, $value := …`.
    pub variables: Vec<String>,
    pub is_declaration: bool,
    /// Each command gets the value of the one before as its last argument.
    pub commands: Vec<Command>,
}

/// A function or method with arguments, or one operand.
pub type Command = Vec<Operand>;

#[derive(Debug, Clone)]
pub enum Operand {
    Dot,
    Literal(Value),
    Function(String),
    /// A variable or a parenthesised pipeline or the dot, with members picked from it.
    Variable(String),
    Parenthesised(Box<Pipeline>),
    Member(Box<Operand>, String),
}

pub struct Parsed {
    pub body: Vec<Node>,
    pub defined: Vec<(String, Vec<Node>)>,
}

pub fn parse(name: &str, text: &str) -> Result<Parsed, TemplateError> {
    let tokens = lex(name, text)?;
    let mut parser = Parser { name, tokens, at: 0, depth: 0, defined: Vec::new() };
    let (body, end) = parser.nodes()?;
    if let Some(end) = end {
        return parser.fail(format!("unexpected {{{{{}}}}}", end.word()));
    }
    Ok(Parsed { body, defined: parser.defined })
}

/// What ended a list of nodes.
enum End {
    End,
    Else,
}

impl End {
    fn word(&self) -> &'static str {
        match self {
            End::End => "end",
            End::Else => "else",
        }
    }
}

struct Parser<'a> {
    name: &'a str,
    tokens: Vec<Placed>,
    at: usize,
    depth: usize,
    defined: Vec<(String, Vec<Node>)>,
}

impl Parser<'_> {
    fn fail<T>(&self, message: impl Into<String>) -> Result<T, TemplateError> {
        let placed = self.tokens.get(self.at).or(self.tokens.last());
        let (line, column) = placed.map_or((1, 1), |placed| (placed.line, placed.column));
        Err(TemplateError { name: self.name.to_owned(), line, column, message: message.into() })
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|placed| &placed.token)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.peek().cloned();
        self.at += 1;
        token
    }

    fn skip_spaces(&mut self) {
        while self.peek() == Some(&Token::Space) {
            self.at += 1;
        }
    }

    fn close(&mut self, context: &str) -> Result<(), TemplateError> {
        self.skip_spaces();
        match self.peek() {
            Some(Token::Close) => {
                self.at += 1;
                Ok(())
            }
            _ => self.fail(format!("unexpected token in {context}")),
        }
    }

    /// Nodes up to `{{end}}`, `{{else…`, or the end of the text. After `{{else` the cursor stands behind the word.
    fn nodes(&mut self) -> Result<(Vec<Node>, Option<End>), TemplateError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail("nested too deeply");
        }
        let mut nodes = Vec::new();
        let end = loop {
            let Some(placed) = self.tokens.get(self.at).cloned() else { break None };
            self.at += 1;
            let kind = match placed.token {
                Token::Text(text) => Some(NodeKind::Text(text)),
                _ => match self.action()? {
                    Action::Node(kind) => kind,
                    Action::End(end) => break Some(end),
                },
            };
            nodes.extend(kind.map(|kind| Node { kind, line: placed.line, column: placed.column }));
        };
        self.depth -= 1;
        Ok((nodes, end))
    }

    fn action(&mut self) -> Result<Action, TemplateError> {
        self.skip_spaces();
        let keyword = match self.peek() {
            Some(Token::Identifier(word)) => word.clone(),
            _ => String::new(),
        };
        let keyword_at = self.at;
        self.at += 1;
        let node = match keyword.as_str() {
            "if" => {
                let (condition, then, otherwise) = self.branch("if")?;
                NodeKind::If { condition, then, otherwise }
            }
            "with" => {
                let (value, then, otherwise) = self.branch("with")?;
                NodeKind::With { value, then, otherwise }
            }
            "range" => {
                let (over, body, otherwise) = self.branch("range")?;
                NodeKind::Range { over, body, otherwise }
            }
            "end" => return self.close("end").map(|()| Action::End(End::End)),
            "else" => return Ok(Action::End(End::Else)),
            "break" => self.close("break").map(|()| NodeKind::Break)?,
            "continue" => self.close("continue").map(|()| NodeKind::Continue)?,
            "template" => self.template()?,
            "define" => return self.define().map(|()| Action::Node(None)),
            "block" => self.block()?,
            _ => {
                self.at = keyword_at;
                let pipeline = self.pipeline()?;
                self.close("command")?;
                NodeKind::Print(pipeline)
            }
        };
        Ok(Action::Node(Some(node)))
    }

    /// A pipeline, a body, and what `else` says.
    fn branch(&mut self, word: &str) -> Result<(Pipeline, Vec<Node>, Vec<Node>), TemplateError> {
        let pipeline = self.pipeline()?;
        if pipeline.commands.is_empty() {
            return self.fail(format!("missing value for {word}"));
        }
        self.close(word)?;
        let (body, end) = self.nodes()?;
        let otherwise = match end {
            None => return self.fail("unexpected EOF"),
            Some(End::End) => Vec::new(),
            Some(End::Else) => self.otherwise()?,
        };
        Ok((pipeline, body, otherwise))
    }

    /// Behind `{{else`: a plain else, or `else if` / `else with`, which nest without an end of their own.
    fn otherwise(&mut self) -> Result<Vec<Node>, TemplateError> {
        self.skip_spaces();
        let (line, column) = self.tokens.get(self.at).map_or((1, 1), |placed| (placed.line, placed.column));
        let chained = match self.peek() {
            Some(Token::Identifier(word)) if word == "if" || word == "with" => Some(word.clone()),
            _ => None,
        };
        if let Some(word) = chained {
            self.at += 1;
            self.depth += 1;
            let (value, then, otherwise) = self.branch(&word)?;
            self.depth -= 1;
            let kind = match word.as_str() {
                "if" => NodeKind::If { condition: value, then, otherwise },
                _ => NodeKind::With { value, then, otherwise },
            };
            return Ok(vec![Node { kind, line, column }]);
        }
        self.close("else")?;
        match self.nodes()? {
            (nodes, Some(End::End)) => Ok(nodes),
            (_, Some(End::Else)) => self.fail("expected end; found {{else}}"),
            (_, None) => self.fail("unexpected EOF"),
        }
    }

    fn name(&mut self, context: &str) -> Result<String, TemplateError> {
        self.skip_spaces();
        match self.next() {
            Some(Token::String(name)) => Ok(name),
            _ => self.fail(format!("a {context} needs a quoted name")),
        }
    }

    fn template(&mut self) -> Result<NodeKind, TemplateError> {
        let name = self.name("template")?;
        self.skip_spaces();
        let argument = match self.peek() {
            Some(Token::Close) => None,
            _ => Some(self.pipeline()?),
        };
        self.close("template")?;
        Ok(NodeKind::Template { name, argument })
    }

    fn define(&mut self) -> Result<(), TemplateError> {
        let name = self.name("define")?;
        self.close("define")?;
        self.body_of(name)
    }

    fn body_of(&mut self, name: String) -> Result<(), TemplateError> {
        match self.nodes()? {
            (body, Some(End::End)) => {
                self.defined.push((name, body));
                Ok(())
            }
            _ => self.fail("unexpected end of a definition"),
        }
    }

    /// `block` defines a template and calls it where it stands.
    fn block(&mut self) -> Result<NodeKind, TemplateError> {
        let name = self.name("block")?;
        let argument = Some(self.pipeline()?);
        self.close("block")?;
        self.body_of(name.clone())?;
        Ok(NodeKind::Template { name, argument })
    }

    fn pipeline(&mut self) -> Result<Pipeline, TemplateError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail("nested too deeply");
        }
        let (variables, is_declaration) = self.declaration();
        let mut pipeline = Pipeline { variables, is_declaration, commands: Vec::new() };
        loop {
            let command = self.command()?;
            if command.is_empty() {
                return self.fail("missing value for command");
            }
            pipeline.commands.push(command);
            if self.peek() != Some(&Token::Pipe) {
                break;
            }
            self.at += 1;
        }
        self.depth -= 1;
        Ok(pipeline)
    }

    /// `$x :=`, `$x =`, `$k, $v :=`; consumes nothing when there is none.
    fn declaration(&mut self) -> (Vec<String>, bool) {
        let start = self.at;
        let mut variables = Vec::new();
        loop {
            self.skip_spaces();
            let Some(Token::Variable(name)) = self.next() else { break };
            variables.push(name);
            self.skip_spaces();
            match self.next() {
                Some(Token::Comma) if variables.len() == 1 => {}
                Some(Token::Declare) => return (variables, true),
                Some(Token::Assign) => return (variables, false),
                _ => break,
            }
        }
        self.at = start;
        (Vec::new(), false)
    }

    fn command(&mut self) -> Result<Command, TemplateError> {
        let mut operands = Vec::new();
        loop {
            self.skip_spaces();
            match self.peek() {
                None | Some(Token::Close | Token::Pipe | Token::RightParen) => return Ok(operands),
                _ => operands.push(self.operand()?),
            }
        }
    }

    fn operand(&mut self) -> Result<Operand, TemplateError> {
        let mut operand = match self.next() {
            Some(Token::Dot) => Operand::Dot,
            Some(Token::Field(name)) => Operand::Member(Box::new(Operand::Dot), name),
            Some(Token::Variable(name)) => Operand::Variable(name),
            Some(Token::String(text)) => Operand::Literal(Value::String(text)),
            Some(Token::Int(value)) => Operand::Literal(Value::Int(value)),
            Some(Token::Float(value)) => Operand::Literal(Value::Float(value)),
            Some(Token::Identifier(word)) => match word.as_str() {
                "true" => Operand::Literal(Value::Bool(true)),
                "false" => Operand::Literal(Value::Bool(false)),
                "nil" => Operand::Literal(Value::Nil),
                _ => Operand::Function(word),
            },
            Some(Token::LeftParen) => {
                let inner = self.pipeline()?;
                self.skip_spaces();
                if self.next() != Some(Token::RightParen) {
                    self.at -= 1;
                    return self.fail("unclosed left paren");
                }
                Operand::Parenthesised(Box::new(inner))
            }
            _ => {
                self.at -= 1;
                return self.fail("unexpected token in operand");
            }
        };
        while let Some(Token::Field(name)) = self.peek() {
            operand = Operand::Member(Box::new(operand), name.clone());
            self.at += 1;
        }
        Ok(operand)
    }
}

enum Action {
    /// Nothing for `define`, which leaves no node where it stands.
    Node(Option<NodeKind>),
    End(End),
}
