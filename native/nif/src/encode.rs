//! What the core says as terms: structs become maps with atom keys, maps keep binary keys, what
//! is absent is `nil`.

use std::fmt;

use rustler::{Atom, Encoder, Env, Term};
use serde::Serialize;
use serde::ser::{self, Impossible, SerializeMap, SerializeSeq, SerializeStruct};

use crate::decode;

mod atoms {
    rustler::atoms! { nil }
}

/// Encodes a value. The names of struct fields become atoms; data never does.
pub fn term<'a>(env: Env<'a>, value: &impl Serialize) -> Result<Term<'a>, NotEncodable> {
    value.serialize(TermSerializer(env))
}

/// A kind of value that no report has.
#[derive(Debug)]
pub struct NotEncodable(String);

impl fmt::Display for NotEncodable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for NotEncodable {}

impl ser::Error for NotEncodable {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

impl From<rustler::Error> for NotEncodable {
    fn from(error: rustler::Error) -> Self {
        Self(format!("{error:?}"))
    }
}

#[derive(Clone, Copy)]
struct TermSerializer<'a>(Env<'a>);

struct Items<'a>(Env<'a>, Vec<Term<'a>>);

struct Pairs<'a>(Env<'a>, Vec<Term<'a>>, Vec<Term<'a>>);

type Encoded<'a> = Result<Term<'a>, NotEncodable>;

macro_rules! encode_as {
    ($($method:ident: $from:ty => $to:ty),+) => {
        $(fn $method(self, value: $from) -> Encoded<'a> {
            Ok(<$to>::from(value).encode(self.0))
        })+
    };
}

macro_rules! not_encodable {
    ($($method:ident($($argument:ty),*) -> $returned:ty;)+) => {
        $(fn $method(self, $(_: $argument),*) -> Result<$returned, NotEncodable> {
            Err(NotEncodable(stringify!($method).to_owned()))
        })+
    };
}

impl<'a> ser::Serializer for TermSerializer<'a> {
    type Ok = Term<'a>;
    type Error = NotEncodable;
    type SerializeSeq = Items<'a>;
    type SerializeTuple = Impossible<Term<'a>, NotEncodable>;
    type SerializeTupleStruct = Impossible<Term<'a>, NotEncodable>;
    type SerializeTupleVariant = Impossible<Term<'a>, NotEncodable>;
    type SerializeMap = Pairs<'a>;
    type SerializeStruct = Pairs<'a>;
    type SerializeStructVariant = Impossible<Term<'a>, NotEncodable>;

    encode_as! {
        serialize_bool: bool => bool,
        serialize_i8: i8 => i64,
        serialize_i16: i16 => i64,
        serialize_i32: i32 => i64,
        serialize_i64: i64 => i64,
        serialize_u8: u8 => u64,
        serialize_u16: u16 => u64,
        serialize_u32: u32 => u64,
        serialize_u64: u64 => u64,
        serialize_f32: f32 => f64,
        serialize_f64: f64 => f64
    }

    not_encodable! {
        serialize_char(char) -> Term<'a>;
        serialize_unit() -> Term<'a>;
        serialize_tuple(usize) -> Self::SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant;
    }

    fn serialize_str(self, value: &str) -> Encoded<'a> {
        Ok(value.encode(self.0))
    }

    fn serialize_bytes(self, value: &[u8]) -> Encoded<'a> {
        Ok(decode::binary(self.0, value).encode(self.0))
    }

    fn serialize_none(self) -> Encoded<'a> {
        Ok(atoms::nil().to_term(self.0))
    }

    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Encoded<'a> {
        value.serialize(self)
    }

    fn serialize_unit_struct(self, name: &'static str) -> Encoded<'a> {
        Ok(Atom::from_str(self.0, name)?.to_term(self.0))
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Encoded<'a> {
        self.serialize_unit_struct(variant)
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        value: &T,
    ) -> Encoded<'a> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Encoded<'a> {
        let tag = self.serialize_unit_struct(variant)?;
        Ok((tag, value.serialize(self)?).encode(self.0))
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Items<'a>, NotEncodable> {
        Ok(Items(self.0, Vec::with_capacity(length.unwrap_or(0))))
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Pairs<'a>, NotEncodable> {
        let capacity = length.unwrap_or(0);
        Ok(Pairs(self.0, Vec::with_capacity(capacity), Vec::with_capacity(capacity)))
    }

    fn serialize_struct(self, _: &'static str, length: usize) -> Result<Pairs<'a>, NotEncodable> {
        self.serialize_map(Some(length))
    }
}

impl<'a> SerializeSeq for Items<'a> {
    type Ok = Term<'a>;
    type Error = NotEncodable;

    fn serialize_element<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), NotEncodable> {
        self.1.push(value.serialize(TermSerializer(self.0))?);
        Ok(())
    }

    fn end(self) -> Encoded<'a> {
        Ok(self.1.encode(self.0))
    }
}

impl<'a> SerializeMap for Pairs<'a> {
    type Ok = Term<'a>;
    type Error = NotEncodable;

    fn serialize_key<T: ?Sized + Serialize>(&mut self, key: &T) -> Result<(), NotEncodable> {
        self.1.push(key.serialize(TermSerializer(self.0))?);
        Ok(())
    }

    fn serialize_value<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), NotEncodable> {
        self.2.push(value.serialize(TermSerializer(self.0))?);
        Ok(())
    }

    fn end(self) -> Encoded<'a> {
        Ok(Term::map_from_term_arrays(self.0, &self.1, &self.2)?)
    }
}

impl<'a> SerializeStruct for Pairs<'a> {
    type Ok = Term<'a>;
    type Error = NotEncodable;

    fn serialize_field<T: ?Sized + Serialize>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), NotEncodable> {
        self.1.push(Atom::from_str(self.0, key)?.to_term(self.0));
        self.serialize_value(value)
    }

    fn end(self) -> Encoded<'a> {
        SerializeMap::end(self)
    }
}
