//! Credentials of a scrape, read from their files at each use, so that they may be rotated.

use std::io;
use std::path::PathBuf;

use reqwest::RequestBuilder;
use service::config::ScrapeConfig;

pub fn authorize(request: RequestBuilder, config: &ScrapeConfig) -> io::Result<RequestBuilder> {
    if let Some(basic) = &config.basic_auth {
        let username = or_file(&basic.username, basic.username_file.as_ref())?;
        let password = or_file(&basic.password, basic.password_file.as_ref())?;
        return Ok(request.basic_auth(username, Some(password)));
    }
    if let Some(authorization) = &config.authorization {
        let credentials = or_file(&authorization.credentials, authorization.credentials_file.as_ref())?;
        return Ok(request.header("authorization", format!("{} {credentials}", authorization.kind)));
    }
    let token = or_file(config.bearer_token.as_deref().unwrap_or(""), config.bearer_token_file.as_ref())?;
    Ok(if token.is_empty() { request } else { request.bearer_auth(token) })
}

fn or_file(value: &str, file: Option<&PathBuf>) -> io::Result<String> {
    match file {
        Some(path) => Ok(std::fs::read_to_string(path)?.trim().to_owned()),
        None => Ok(value.to_owned()),
    }
}
