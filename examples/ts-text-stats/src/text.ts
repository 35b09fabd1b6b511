/** Words in lower case: letters and digits of any script, with inner apostrophes and hyphens. */
export function words(text: string): string[] {
  return text.toLowerCase().match(/[\p{L}\p{N}]+(?:['’-][\p{L}\p{N}]+)*/gu) ?? [];
}

/** How many sentences end; a text without an end is one. */
export function sentences(text: string): number {
  return Math.max(1, text.match(/[.!?…。！？]+(?=["'”’)\]]*(?:\s|$))/gu)?.length ?? 0);
}

/** Blocks with an empty line between. */
export function paragraphs(text: string): number {
  return text.split(/\n\s*\n/).filter((block) => block.trim() !== "").length;
}

/** Each word with its count: the most frequent first, and by the alphabet where they are equal. */
export function frequencies(words: string[]): { word: string; count: number }[] {
  const counts = new Map<string, number>();
  for (const word of words) counts.set(word, (counts.get(word) ?? 0) + 1);
  return [...counts]
    .map(([word, count]) => ({ word, count }))
    .sort((a, b) => b.count - a.count || (a.word < b.word ? -1 : 1));
}
