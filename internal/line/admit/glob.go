package admit

// A pattern is text in which "*" stands for any characters but "/", and "**"
// for any characters. Nothing else is special.

type token struct {
	char byte
	star int // 0 for a character, 1 for *, 2 for **
}

func tokens(pattern string) []token {
	var list []token
	for i := 0; i < len(pattern); i++ {
		switch {
		case pattern[i] != '*':
			list = append(list, token{char: pattern[i]})
		case i+1 < len(pattern) && pattern[i+1] == '*':
			list = append(list, token{star: 2})
			i++
		default:
			list = append(list, token{star: 1})
		}
	}
	return list
}

// matches reports whether the pattern stands for the name.
func matches(pattern, name string) bool {
	text := make([]token, len(name))
	for i := range len(name) {
		text[i] = token{char: name[i]} // a star in a name is a character
	}
	return covers(tokens(pattern), text)
}

// shadows reports whether everything that inner stands for, outer stands for
// too. It may miss a case (two patterns whose stars only together cover a
// third), never claim one.
func shadows(outer, inner string) bool { return covers(tokens(outer), tokens(inner)) }

// covers matches a pattern against a text that may hold stars itself, in time len(pattern) x len(text).
func covers(pattern, text []token) bool {
	reach := make([]bool, len(text)+1) // reach[j]: the pattern so far stands for text[:j]
	reach[0] = true
	for _, p := range pattern {
		next := make([]bool, len(text)+1)
		next[0] = reach[0] && p.star > 0
		for j, t := range text {
			switch {
			case p.star == 0:
				next[j+1] = reach[j] && t.star == 0 && t.char == p.char
			case p.star == 1:
				next[j+1] = reach[j+1] || next[j] && t.star < 2 && t.char != '/'
			default:
				next[j+1] = reach[j+1] || next[j]
			}
		}
		reach = next
	}
	return reach[len(text)]
}
