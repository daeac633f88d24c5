//! Key pairs: made, read, and shown to the world.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RSA_PSS_SHA256, RsaKeyPair,
};
use jsonwebtoken::jwk::{Jwk, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey};
use thiserror::Error;

use crate::base::Secret;
use crate::model::client::SigningAlg;

/// The key cannot be used: damaged, or of another kind than its record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the signing key cannot be used")]
pub(super) struct BadKey;

/// A private key, parsed once: parsing costs as much as signing.
pub(super) enum Pair {
    Es256(EcdsaKeyPair),
    Rs256(RsaKeyPair),
    Ps256(RsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

/// Makes a private key, as PKCS#8 version 1. An RSA key takes a tenth of a second and more.
pub(super) fn generate(alg: SigningAlg, rsa_bits: u16) -> Result<Secret<Vec<u8>>, BadKey> {
    let rng = SystemRandom::new();
    let bytes = match alg {
        SigningAlg::ES256 => {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
            pair.and_then(|pair| pair.to_pkcs8v1()).map(|document| document.as_ref().to_vec())
        }
        SigningAlg::EdDSA => {
            Ed25519KeyPair::generate_pkcs8v1(&rng).map(|document| document.as_ref().to_vec())
        }
        SigningAlg::RS256 | SigningAlg::PS256 => {
            let size = match rsa_bits {
                ..=2048 => KeySize::Rsa2048,
                2049..=3072 => KeySize::Rsa3072,
                3073.. => KeySize::Rsa4096,
            };
            RsaKeyPair::generate(size)
                .and_then(|pair| AsDer::<Pkcs8V1Der<'_>>::as_der(&pair))
                .map(|der| der.as_ref().to_vec())
        }
    };
    bytes.map(Secret::new).map_err(|_| BadKey)
}

impl Pair {
    /// Reads PKCS#8.
    pub(super) fn read(alg: SigningAlg, pkcs8: &[u8]) -> Result<Self, BadKey> {
        let pair = match alg {
            SigningAlg::ES256 => {
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).map(Self::Es256)
            }
            SigningAlg::RS256 => RsaKeyPair::from_pkcs8(pkcs8).map(Self::Rs256),
            SigningAlg::PS256 => RsaKeyPair::from_pkcs8(pkcs8).map(Self::Ps256),
            SigningAlg::EdDSA => Ed25519KeyPair::from_pkcs8(pkcs8).map(Self::EdDsa),
        };
        pair.map_err(|_| BadKey)
    }

    /// The signature of `message`, as JWS wants it (RFC 7518 §3.3 to §3.5, RFC 8037 §3.1).
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, BadKey> {
        let rng = SystemRandom::new();
        match self {
            Self::Es256(pair) => {
                pair.sign(&rng, message).map(|signature| signature.as_ref().to_vec())
            }
            Self::EdDsa(pair) => {
                pair.try_sign(message).map(|signature| signature.as_ref().to_vec())
            }
            Self::Rs256(pair) | Self::Ps256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let padding: &'static dyn aws_lc_rs::signature::RsaEncoding = match self {
                    Self::Ps256(_) => &RSA_PSS_SHA256,
                    _ => &RSA_PKCS1_SHA256,
                };
                pair.sign(padding, &rng, message, &mut signature).map(|()| signature)
            }
        }
        .map_err(|_| BadKey)
    }

    /// The public half as a JWK with `kid` (its RFC 7638 thumbprint), `alg` and `use`.
    pub(super) fn public_jwk(&self) -> Result<Jwk, BadKey> {
        let (key, alg) = match self {
            Self::Es256(pair) => {
                (DecodingKey::from_ec_der(pair.public_key().as_ref()), Algorithm::ES256)
            }
            Self::Rs256(pair) => {
                (DecodingKey::from_rsa_der(pair.public_key().as_ref()), Algorithm::RS256)
            }
            Self::Ps256(pair) => {
                (DecodingKey::from_rsa_der(pair.public_key().as_ref()), Algorithm::PS256)
            }
            Self::EdDsa(pair) => {
                (DecodingKey::from_ed_der(pair.public_key().as_ref()), Algorithm::EdDSA)
            }
        };
        let mut jwk = Jwk::from_decoding_key(&key, Some(alg)).map_err(|_| BadKey)?;
        jwk.common.key_id = Some(jwk.thumbprint(ThumbprintHash::SHA256).map_err(|_| BadKey)?);
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(jwk)
    }
}
