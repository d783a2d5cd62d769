//! The assertion of OAuth2's grant `jwt-bearer` (RFC 7523): claims, signed with an RSA key.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::SignatureScheme;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::http_config::HttpConfigError;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum Algorithm {
    #[default]
    #[serde(rename = "RS256")]
    Rs256,
    #[serde(rename = "RS384")]
    Rs384,
    #[serde(rename = "RS512")]
    Rs512,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Algorithm::Rs256 => "RS256",
            Algorithm::Rs384 => "RS384",
            Algorithm::Rs512 => "RS512",
        }
    }

    fn scheme(self) -> SignatureScheme {
        match self {
            Algorithm::Rs256 => SignatureScheme::RSA_PKCS1_SHA256,
            Algorithm::Rs384 => SignatureScheme::RSA_PKCS1_SHA384,
            Algorithm::Rs512 => SignatureScheme::RSA_PKCS1_SHA512,
        }
    }
}

/// Signs claims with a key in PEM (PKCS#1 or PKCS#8); `key_id` names it to the server, unless it is empty.
pub fn sign(claims: &Value, key_pem: &str, key_id: &str, algorithm: Algorithm) -> Result<String, HttpConfigError> {
    let wrong =
        |error: &dyn std::fmt::Display| HttpConfigError::Wrong(format!("oauth2 client_certificate_key: {error}"));
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|error| wrong(&error))?;
    let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(|error| wrong(&error))?;
    let signer = key.choose_scheme(&[algorithm.scheme()]).ok_or_else(|| wrong(&"not an RSA key"))?;
    let mut header = json!({"alg": algorithm.name(), "typ": "JWT"});
    if !key_id.is_empty() {
        header["kid"] = key_id.into();
    }
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(&header), encode(claims));
    let signature = signer.sign(signed.as_bytes()).map_err(|error| wrong(&error))?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}
