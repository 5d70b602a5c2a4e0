//! A pickle machine that runs no code.
//!
//! It knows the opcodes of protocols 0 to 5, but only the callables of `torch`'s allow-list, and those build plain
//! values here rather than Python objects. Everything lives in one [`Heap`] and refers by index, so cycles and depth
//! cost nothing; the number of steps and the size of every string are bounded by the input and by constants.

use std::collections::HashMap;
use std::io::BufRead;
use std::rc::Rc;

use super::pickle_input::{Input, broken};
use super::torch::{self, Callable, Storage, StoredTensor};
use crate::error::{Error, Result};

/// Most opcodes that are run.
const MAX_STEPS: u32 = 5_000_000;
/// The number that begins a file of `torch.save` from before its zip form: 0x1950a86a20f9469cfc6c, little-endian.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// A value on the machine's stack; what is large or mutable lies in the heap.
#[derive(Clone, Debug)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// The number that begins an old file of PyTorch.
    Magic,
    Text(Rc<str>),
    Tuple(u32),
    List(u32),
    Map(u32),
    Callable(Callable),
    Storage(u32),
    Tensor(u32),
    /// Something of this kind that no tensor needs.
    Other(&'static str),
}

/// What the values refer to.
#[derive(Debug, Default)]
pub(super) struct Heap {
    sequences: Vec<Vec<Value>>,
    maps: Vec<Vec<(Value, Value)>>,
    pub(super) storages: Vec<Storage>,
    pub(super) tensors: Vec<StoredTensor>,
}

impl Heap {
    /// The items of a list or tuple.
    pub(super) fn items(&self, value: &Value) -> Option<&[Value]> {
        match value {
            Value::Tuple(at) | Value::List(at) => Some(&self.sequences[*at as usize]),
            _ => None,
        }
    }

    /// The entries of a dict, in the order they were set; a key may stand several times and the last one counts.
    pub(super) fn entries(&self, value: &Value) -> Option<&[(Value, Value)]> {
        match value {
            Value::Map(at) => Some(&self.maps[*at as usize]),
            _ => None,
        }
    }

    pub(super) fn new_tuple(&mut self, items: Vec<Value>) -> Value {
        self.sequences.push(items);
        Value::Tuple(self.sequences.len() as u32 - 1)
    }

    fn new_list(&mut self, items: Vec<Value>) -> Value {
        self.sequences.push(items);
        Value::List(self.sequences.len() as u32 - 1)
    }

    pub(super) fn new_map(&mut self, entries: Vec<(Value, Value)>) -> Value {
        self.maps.push(entries);
        Value::Map(self.maps.len() as u32 - 1)
    }
}

/// Runs one pickle to its end and returns what it describes; `what` names it in messages.
pub(super) fn load<R: BufRead>(input: &mut Input<R>, what: &str) -> Result<(Value, Heap)> {
    let mut machine =
        Machine { what, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new(), heap: Heap::default() };
    for _ in 0..MAX_STEPS {
        let at = input.position;
        let opcode = input.u8()?;
        if opcode == b'.' {
            let value = machine.pop()?;
            return Ok((value, machine.heap));
        }
        machine
            .step(opcode, input)
            .map_err(|e| if e.what_to_try().is_some() { e } else { e.within(format!("byte {at}")) })?;
    }
    Err(Error::input(format!("{what} has more than {MAX_STEPS} steps; so long a one is no state dict")))
}

struct Machine<'a> {
    what: &'a str,
    stack: Vec<Value>,
    /// Where on the stack each open mark stands.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    heap: Heap,
}

impl Machine<'_> {
    fn step<R: BufRead>(&mut self, opcode: u8, input: &mut Input<R>) -> Result<()> {
        match opcode {
            // Framing and the machine itself.
            0x80 => {
                let protocol = input.u8()?;
                if protocol > 5 {
                    return Err(broken("its protocol is over 5"));
                }
            }
            0x95 => {
                input.u64()?;
            }
            b'(' => self.marks.push(self.stack.len()),
            b'0' => {
                // A mark at the top goes like a value.
                if self.marks.last() == Some(&self.stack.len()) {
                    self.marks.pop();
                } else {
                    self.pop()?;
                }
            }
            b'1' => {
                self.pop_to_mark()?;
            }
            b'2' => {
                let top = self.top()?.clone();
                self.stack.push(top);
            }
            b'p' => {
                let index = input.line()?;
                self.remember(parse_index(&index)?)?;
            }
            b'q' => {
                let index = input.u8()?;
                self.remember(u32::from(index))?;
            }
            b'r' => {
                let index = input.u32()?;
                self.remember(index)?;
            }
            0x94 => self.remember(self.memo.len() as u32)?,
            b'g' => {
                let index = input.line()?;
                self.recall(parse_index(&index)?)?;
            }
            b'h' => {
                let index = input.u8()?;
                self.recall(u32::from(index))?;
            }
            b'j' => {
                let index = input.u32()?;
                self.recall(index)?;
            }
            _ if self.scalar(opcode, input)? || self.container(opcode)? => {}
            _ => self.object(opcode, input)?,
        }
        Ok(())
    }

    /// Numbers, text and bytes.
    fn scalar<R: BufRead>(&mut self, opcode: u8, input: &mut Input<R>) -> Result<bool> {
        let value = match opcode {
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'J' => Value::Int(i64::from(i32::from_le_bytes(input.array()?))),
            b'K' => Value::Int(i64::from(input.u8()?)),
            b'M' => Value::Int(i64::from(u16::from_le_bytes(input.array()?))),
            b'I' => match input.line()?.as_str() {
                "00" => Value::Bool(false),
                "01" => Value::Bool(true),
                number => decimal(number)?,
            },
            b'L' => decimal(input.line()?.trim_end_matches('L'))?,
            0x8a => {
                let length = input.u8()?;
                long(&input.bytes(u64::from(length))?)
            }
            0x8b => {
                let length = input.u32()?;
                long(&input.bytes(u64::from(length))?)
            }
            b'F' => {
                input.line()?;
                Value::Other("float")
            }
            b'G' => {
                input.u64()?;
                Value::Other("float")
            }
            b'S' => text_or_bytes(quoted(&input.line()?)?.as_bytes().to_vec()),
            b'V' => Value::Text(input.line()?.into()),
            b'U' => {
                let length = input.u8()?;
                text_or_bytes(input.bytes(u64::from(length))?)
            }
            b'T' => {
                let length = input.u32()?;
                text_or_bytes(input.bytes(u64::from(length))?)
            }
            0x8c => {
                let length = input.u8()?;
                text(input.bytes(u64::from(length))?)?
            }
            b'X' => {
                let length = input.u32()?;
                text(input.bytes(u64::from(length))?)?
            }
            0x8d => {
                let length = input.u64()?;
                text(input.bytes(length)?)?
            }
            b'C' => {
                let length = input.u8()?;
                input.skip(u64::from(length))?;
                Value::Other("bytes")
            }
            b'B' => {
                let length = input.u32()?;
                input.skip(u64::from(length))?;
                Value::Other("bytes")
            }
            0x8e | 0x96 => {
                let length = input.u64()?;
                input.skip(length)?;
                Value::Other("bytes")
            }
            _ => return Ok(false),
        };
        self.stack.push(value);
        Ok(true)
    }

    /// Lists, tuples, dicts and sets.
    fn container(&mut self, opcode: u8) -> Result<bool> {
        match opcode {
            b']' | b')' | b'}' | 0x8f => {
                let value = match opcode {
                    b']' => self.heap.new_list(Vec::new()),
                    b')' => self.heap.new_tuple(Vec::new()),
                    b'}' => self.heap.new_map(Vec::new()),
                    _ => Value::Other("set"),
                };
                self.stack.push(value);
            }
            b'l' | b't' | b'd' | 0x91 => {
                let items = self.pop_to_mark()?;
                let value = match opcode {
                    b'l' => self.heap.new_list(items),
                    b't' => self.heap.new_tuple(items),
                    b'd' => {
                        let entries = in_pairs(items)?;
                        self.heap.new_map(entries)
                    }
                    _ => Value::Other("set"),
                };
                self.stack.push(value);
            }
            0x85..=0x87 => {
                let count = usize::from(opcode - 0x84);
                let begin = self.floor(count)?;
                let items = self.stack.split_off(begin);
                let value = self.heap.new_tuple(items);
                self.stack.push(value);
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' | 0x90 => {
                let items = self.pop_to_mark()?;
                self.append(items)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set(vec![(key, value)])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set(in_pairs(items)?)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Whatever Python would call something for.
    fn object<R: BufRead>(&mut self, opcode: u8, input: &mut Input<R>) -> Result<()> {
        let value = match opcode {
            b'c' => {
                let module = input.line()?;
                let name = input.line()?;
                Value::Callable(torch::allowed(&module, &name, self.what)?)
            }
            0x93 => match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => Value::Callable(torch::allowed(&module, &name, self.what)?),
                _ => return Err(broken("the name of a callable is no text")),
            },
            b'R' => {
                let arguments = self.pop()?;
                let callable = self.pop_callable()?;
                torch::call(callable, &arguments, &mut self.heap)?
            }
            0x81 => {
                let arguments = self.pop()?;
                let callable = self.pop_callable()?;
                torch::call(callable, &arguments, &mut self.heap)?
            }
            0x92 => {
                self.pop()?;
                let arguments = self.pop()?;
                let callable = self.pop_callable()?;
                torch::call(callable, &arguments, &mut self.heap)?
            }
            b'i' => {
                let module = input.line()?;
                let name = input.line()?;
                let callable = torch::allowed(&module, &name, self.what)?;
                let items = self.pop_to_mark()?;
                let arguments = self.heap.new_tuple(items);
                torch::call(callable, &arguments, &mut self.heap)?
            }
            b'o' => {
                let mut items = self.pop_to_mark()?.into_iter();
                let Some(Value::Callable(callable)) = items.next() else {
                    return Err(broken("it calls what cannot be called"));
                };
                let arguments = self.heap.new_tuple(items.collect());
                torch::call(callable, &arguments, &mut self.heap)?
            }
            b'b' => {
                self.pop()?;
                // Attributes change no tensor: state dicts carry `_metadata` this way.
                return match self.top()? {
                    Value::Map(_) | Value::Other(_) | Value::Tensor(_) => Ok(()),
                    _ => Err(broken("it sets attributes of something that has none")),
                };
            }
            b'Q' => {
                let id = self.pop()?;
                torch::persistent(&id, &mut self.heap)?
            }
            b'P' | 0x82..=0x84 | 0x97 | 0x98 => {
                return Err(Error::input(format!(
                    "{} uses opcode 0x{opcode:02x} (extensions, buffers outside the file), which PyTorch never writes",
                    self.what
                )));
            }
            _ => return Err(broken(&format!("there is no opcode 0x{opcode:02x}"))),
        };
        self.stack.push(value);
        Ok(())
    }

    /// The index of the `count`-th value from the top, when no mark stands between.
    fn floor(&self, count: usize) -> Result<usize> {
        let open = self.stack.len() - self.marks.last().copied().unwrap_or(0);
        if open < count {
            return Err(broken("it takes a value from an empty stack"));
        }
        Ok(self.stack.len() - count)
    }

    fn pop(&mut self) -> Result<Value> {
        self.floor(1)?;
        self.stack.pop().ok_or_else(|| broken("it takes a value from an empty stack"))
    }

    fn top(&self) -> Result<&Value> {
        let at = self.floor(1)?;
        Ok(&self.stack[at])
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>> {
        let mark = self.marks.pop().ok_or_else(|| broken("it looks for a mark that was never set"))?;
        Ok(self.stack.split_off(mark))
    }

    fn pop_callable(&mut self) -> Result<Callable> {
        match self.pop()? {
            Value::Callable(callable) => Ok(callable),
            _ => Err(broken("it calls what cannot be called")),
        }
    }

    fn remember(&mut self, index: u32) -> Result<()> {
        let value = self.top()?.clone();
        self.memo.insert(index, value);
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Result<()> {
        let value = self.memo.get(&index).ok_or_else(|| broken("it recalls what it never remembered"))?;
        self.stack.push(value.clone());
        Ok(())
    }

    fn append(&mut self, items: Vec<Value>) -> Result<()> {
        match *self.top()? {
            Value::List(at) => self.heap.sequences[at as usize].extend(items),
            Value::Other(_) => {}
            _ => return Err(broken("it appends to what is no list")),
        }
        Ok(())
    }

    fn set(&mut self, entries: Vec<(Value, Value)>) -> Result<()> {
        match *self.top()? {
            Value::Map(at) => self.heap.maps[at as usize].extend(entries),
            Value::Other(_) => {}
            _ => return Err(broken("it sets an item of what is no dict")),
        }
        Ok(())
    }
}

fn in_pairs(items: Vec<Value>) -> Result<Vec<(Value, Value)>> {
    if !items.len().is_multiple_of(2) {
        return Err(broken("a key without a value"));
    }
    let mut items = items.into_iter();
    let mut pairs = Vec::with_capacity(items.len() / 2);
    while let (Some(key), Some(value)) = (items.next(), items.next()) {
        pairs.push((key, value));
    }
    Ok(pairs)
}

fn parse_index(line: &str) -> Result<u32> {
    line.parse().map_err(|_| broken("the place of a memory is no number"))
}

fn decimal(line: &str) -> Result<Value> {
    match line.parse() {
        Ok(number) => Ok(Value::Int(number)),
        Err(_) if line == "119547037146038801333356" => Ok(Value::Magic),
        Err(_) if !line.is_empty() && line.trim_start_matches('-').bytes().all(|c| c.is_ascii_digit()) => {
            Ok(Value::Other("int"))
        }
        Err(_) => Err(broken("a number that is none")),
    }
}

/// A number of any length in two's complement, little-endian.
fn long(bytes: &[u8]) -> Value {
    if bytes == MAGIC {
        return Value::Magic;
    }
    if bytes.len() > 8 {
        return Value::Other("int");
    }
    let fill = if bytes.last().is_some_and(|&top| top & 0x80 != 0) { 0xff } else { 0 };
    let mut whole = [fill; 8];
    whole[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(whole))
}

fn text(bytes: Vec<u8>) -> Result<Value> {
    // Python writes lone surrogates as invalid UTF-8; no tensor's name has one.
    String::from_utf8(bytes).map(|text| Value::Text(text.into())).map_err(|_| broken("text that is not UTF-8"))
}

/// Python 2 wrote names and bytes with one opcode.
fn text_or_bytes(bytes: Vec<u8>) -> Value {
    String::from_utf8(bytes).map_or(Value::Other("bytes"), |text| Value::Text(text.into()))
}

fn quoted(line: &str) -> Result<&str> {
    ['\'', '"']
        .iter()
        .find_map(|&quote| line.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)))
        .ok_or_else(|| broken("text without quotes"))
}
