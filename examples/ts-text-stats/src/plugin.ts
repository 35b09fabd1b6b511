import { frequencies, paragraphs, sentences, words } from "./text";

interface Input {
  text: string;
  top?: number;
  wordsPerMinute?: number;
}

interface Config {
  stopWords?: string[];
}

interface Stats {
  characters: number;
  words: number;
  distinctWords: number;
  sentences: number;
  paragraphs: number;
  wordsPerSentence: number;
  readingMinutes: number;
  frequent: { word: string; count: number }[];
}

export function analyse({ text, top = 5, wordsPerMinute = 200 }: Input, { config }: Caisson.Context<Config>): Stats {
  const all = words(text);
  if (all.length === 0) {
    throw new caisson.Failure({ code: "NO_WORDS", category: "validation", message: "there are no words in the text", retry: "never" });
  }
  const counted = frequencies(all);
  const stop = new Set(config.stopWords?.map((word) => word.toLowerCase()));
  const sentenceCount = sentences(text);
  caisson.log.info(`counted ${all.length} words`);
  return {
    characters: [...text].length,
    words: all.length,
    distinctWords: counted.length,
    sentences: sentenceCount,
    paragraphs: paragraphs(text),
    wordsPerSentence: rounded(all.length / sentenceCount),
    readingMinutes: rounded(all.length / wordsPerMinute),
    frequent: counted.filter(({ word }) => !stop.has(word)).slice(0, top),
  };
}

function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}
