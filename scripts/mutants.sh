#!/usr/bin/env bash
# Plants one fault at a time into a copy of src/guide and asks its tests whether they notice.
#
#   scripts/mutants.sh            every fault of the list below; fails if one goes unnoticed
#   scripts/mutants.sh N...       only these, by number
#   scripts/mutants.sh --list     the list
#
# Every fault changes a mask. The copy is a crate of three modules (constraint, text, guide), so that a build takes
# seconds instead of minutes; all faults take about half an hour on two idle cores. Needs python3.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT

# file ~ what is written ~ what is written instead
faults() {
  cat <<'FAULTS'
automaton.rs ~ let goes_on = |to: u32| hopeful[to as usize] && !self.refused[to as usize]; ~ let goes_on = |to: u32| hopeful[to as usize];
automaton.rs ~ let goes_on = |to: u32| hopeful[to as usize] && !self.refused[to as usize]; ~ let goes_on = |to: u32| !self.refused[to as usize];
automaton.rs ~ (!self.refused[to as usize] || (fresh && self.delayed)) ~ !self.refused[to as usize]
automaton.rs ~ (!self.refused[to as usize] || (fresh && self.delayed)) ~ (!self.refused[to as usize] || fresh)
automaton.rs ~ accepting[1 + num_states..].fill(true); ~ accepting[1 + num_states..].copy_from_slice(&self.accepting);
automaton.rs ~ accepting.push(self.is_accepting(left) && other.is_accepting(right)); ~ accepting.push(self.is_accepting(left) || other.is_accepting(right));
automaton.rs ~ Ok((1 + raw.num_states()) as u32 + raw.run(tail)) ~ Ok(1 + raw.run(tail))
automaton.rs ~ (Engine::Lazy(lazy), Seed::Own) => lazy.start_after(tail), ~ (Engine::Lazy(lazy), Seed::Own) => lazy.run(lazy.start, tail),
mask_cache.rs ~ if (a == DEAD) != (b == DEAD) { ~ if a == DEAD {
mask_cache.rs ~ if (a == DEAD) != (b == DEAD) { ~ if b == DEAD {
mask_cache.rs ~ row[word] &= bits; ~ row[word] = bits;
mask_cache.rs ~ mask::intersect(&mut row[from..], &root[from..]); ~ let _ = from;
mask_cache.rs ~ visit(word, ids.iter().fold(root[word], |bits, id| bits ^ (1 << (id % 32)))); ~ visit(word, ids.iter().fold(root[word], |bits, id| bits & !(1 << (id % 32))));
mask_cache.rs ~ masks.insert(state, StoredMask::Ids(roots.len() - 1, Box::default()), 0); ~ masks.insert(state, StoredMask::Ids(0, Box::default()), 0);
lexer_masks.rs ~ states.truncate(depth); ~ states.truncate(depth + 1);
lexer_masks.rs ~ Self(Arc::new(Mutex::new(self.lock().clone()))) ~ self.clone()
lexer_masks.rs ~ if !next.is_dead() || discriminant(&lexer.try_lexeme_end(state)) != no_end { ~ if !next.is_dead() {
lexer_masks.rs ~ num_noted = num_noted.min(depth - 1); ~ let _ = depth;
lexer_masks.rs ~ Below { first: node as u32 + 1, end: self.tokens.end_of(node) as u32 } ~ Below { first: node as u32 + 1, end: node as u32 + 1 }
vocabulary.rs ~ if pair.0 == pair.1 { ~ if pair.0 == pair.1 || node.depth() > 1 {
vocabulary.rs ~ for closed in open.drain(shared..) { ~ for closed in open.drain(shared.max(1) - 1..) {
chars.rs ~ take_while(|(count, _)| *count as usize > left) ~ take_while(|(count, _)| *count as usize >= left)
chars.rs ~ byte & 0xC0 != 0x80 ~ byte & 0x80 == 0
chars.rs ~ so_far + num_chars(bytes) <= self.max_chars ~ so_far + num_chars(bytes) <= self.max_chars + 1
mod.rs ~ let (max_chars, idx) = stated.min()?; ~ let (max_chars, idx) = stated.max()?;
mod.rs ~ plan.automata.push((limit.part.clone(), chars::utf8(&limit.part)?.prune())); ~ let _ = chars::utf8(&limit.part)?.prune();
matcher.rs ~ self.num_chars -= ~ let _ =
matcher.rs ~ if self.is_complete()? { ~ if !self.has_ended() {
matcher.rs ~ limit.intersect_mask(self.num_chars, row); ~ limit.intersect_mask(self.num_bytes, row);
lazy.rs ~ MatchMode::Full | MatchMode::Prefix if members.is_empty() => return Some(DEAD), ~ MatchMode::Full if members.is_empty() => return Some(DEAD),
lazy.rs ~ MatchMode::Prefix | MatchMode::Contains if hit => return Some(ALL), ~ MatchMode::Contains if hit => return Some(ALL),
lazy.rs ~ if self.lazy.mode == MatchMode::Absent && { is_hit }() { DEAD } else { next } ~ if self.lazy.mode == MatchMode::Absent && { is_hit }() { next } else { next }
lazy.rs ~ ranges.partition_point(|&(_, last, _)| last < byte); ~ ranges.partition_point(|&(_, last, _)| last <= byte);
lazy.rs ~ members.extend_from_slice(&from_start); ~ drop(from_start);
lazy.rs ~ MatchMode::Full => self.read().hits[state as usize], ~ MatchMode::Full => state != DEAD,
forbidden.rs ~ found: state.ends_word && !is_word(byte), ~ found: state.ends_word,
forbidden.rs ~ at_border: !is_word(byte), ~ at_border: true,
forbidden.rs ~ let accepting = states.order.iter().map(|state| !state.ends_word).collect(); ~ let accepting = states.order.iter().map(|_| true).collect();
forbidden.rs ~ nodes.filter_map(|node| trie.child(node, fold(byte))) ~ nodes.filter_map(|node| trie.child(node, byte))
forbidden.rs ~ { 256 + u16::from(fold(byte)) } ~ { 256 + u16::from(byte) }
forbidden.rs ~ .filter(|(_, text)| text.scope == scope) ~ .filter(|(_, text)| text.scope == Scope::Output)
forbidden.rs ~ refused[node] = true; ~ refused[node] = node % 7 != 3;
forbidden.rs ~ refused[child] |= refused[fallback as usize]; ~ let _ = fallback;
regex.rs ~ MatchMode::Prefix => Hir::concat(vec![hir, anything()]), ~ MatchMode::Prefix => hir,
regex.rs ~ accepting.push(dfa.is_match_state(dfa.next_eoi_state(state)) != absent); ~ accepting.push(dfa.is_match_state(dfa.next_eoi_state(state)) || absent);
regex.rs ~ refused.push(absent && dfa.is_match_state(state)); ~ refused.push(absent && dfa.is_match_state(state) && at % 2 == 0);
regex.rs ~ 's' => builder.dot_matches_new_line(true), ~ 's' => &mut builder,
tokens.rs ~ mask::intersect(row, &keep); ~ let _ = &keep;
mask.rs ~ row[common..].fill(0); ~ let _ = common;
ebnf/emit.rs ~ (1, None) => format!("{symbol}+"), ~ (1, None) => format!("{symbol}*"),
ebnf/emit.rs ~ Ok(self.class(&difference(&left, &right))) ~ Ok(self.class(&left))
ebnf/emit.rs ~ Expr::Literal(text) if text.is_empty() => Ok("\"\"".to_owned()), ~ Expr::Literal(text) if text.len() != 1 => Ok(format!("{text:?}")),
ebnf/emit.rs ~ if self.is_productive(option) { ~ if self.is_productive(option) || written.len() < 9 {
FAULTS
}

if [[ ${1:-} == --list ]]; then
  faults | nl
  exit
fi

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}
export CARGO_INCREMENTAL=1 CARGO_TERM_COLOR=never
mkdir -p "$copy/src"
cp -r "$root"/Cargo.toml "$root"/Cargo.lock "$root"/rust-toolchain.toml "$root"/benches "$root"/tests "$copy"
ln -s "$root/models" "$copy/models"
cp -r "$root"/src/{bin,constraint,text,guide} "$copy/src"
mkdir "$copy/src/braid"
cp -r "$root/src/braid/grammars" "$copy/src/braid" # tests of the guide read them
printf 'pub mod constraint;\npub mod guide;\npub mod text;\n' >"$copy/src/lib.rs"
cd "$copy"

# The tests of the guide, at light settings; a fault may loop, so they have an end.
check() {
  timeout 900 cargo test --quiet --release --lib \
    --config 'profile.release.package.ananke.opt-level=1' --config 'profile.release.package.ananke.codegen-units=64' \
    guide:: >"$copy/output" 2>&1
}

plant() {
  python3 - "$1" "$2" "$3" <<'PLANT'
import sys
path, written, instead = sys.argv[1:]
source = open(path).read()
if written not in source:
    sys.exit(f"{path} no longer says: {written}")
open(path, "w").write(source.replace(written, instead))
PLANT
}

if ! check; then
  tail -n 40 "$copy/output"
  echo "the tests fail without a fault"
  exit 1
fi
number=0
num_tried=0
unnoticed=()
while IFS= read -r fault; do
  number=$((number + 1))
  if (($#)) && [[ " $* " != *" $number "* ]]; then
    continue
  fi
  num_tried=$((num_tried + 1))
  file=${fault%% ~ *}
  rest=${fault#* ~ }
  plant "src/guide/$file" "${rest%% ~ *}" "${rest#* ~ }"
  if check; then
    verdict=UNNOTICED
    unnoticed+=("$number")
  elif grep -q '^error' "$copy/output" && ! grep -q '^running' "$copy/output"; then
    tail -n 20 "$copy/output"
    verdict="DOES NOT COMPILE"
    unnoticed+=("$number")
  else
    # By name: a test that holds a bound on time may fail on a busy machine without any fault.
    verdict="caught by $(sed -n 's/^    guide:://p' "$copy/output" | sort -u | paste -sd ' ')"
  fi
  echo "$number $file: $verdict"
  cp "$root/src/guide/$file" "src/guide/$file"
done < <(faults)
echo "$((num_tried - ${#unnoticed[@]})) of $num_tried faults caught"
if ((${#unnoticed[@]})); then
  echo "not caught: ${unnoticed[*]}"
  exit 1
fi
