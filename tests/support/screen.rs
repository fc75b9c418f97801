//! What a frame buffer shows: pixels, in which text is found without knowing the font.

use std::collections::HashMap;

/// A character's cell in the kernel's fonts for screens of ordinary size (lib/fonts/font_8x16.c), in pixels.
const CELL: (usize, usize) = (8, 16);

/// Which pixels of a cell are lit, a byte a row.
type Cell = [u8; CELL.1];

/// A screen as rows of cells.
pub struct Screen {
    rows: Vec<Vec<Cell>>,
}

impl Screen {
    /// From a binary PPM, as QEMU's `screendump` makes it.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn from_ppm(ppm: &[u8]) -> Self {
        let mut fields = ppm.splitn(4, |byte| byte.is_ascii_whitespace());
        let mut number = || {
            let field = std::str::from_utf8(fields.next().expect("a field")).expect("text");
            field.parse::<usize>().ok()
        };
        assert_eq!(number(), None, "P6");
        let (width, height) = (number().expect("a width"), number().expect("a height"));
        // What is left: `255`, one white space, and three bytes a pixel.
        let rest = fields.next().expect("pixels");
        let pixels = &rest[rest.iter().position(u8::is_ascii_whitespace).expect("pixels") + 1..];
        let lit = |x: usize, y: usize| pixels[(y * width + x) * 3..][..3].iter().any(|part| *part > 64);
        let cell = |column: usize, row: usize| -> Cell {
            std::array::from_fn(|y| {
                (0..CELL.0)
                    .fold(0, |bits, x| bits << 1 | u8::from(lit(column * CELL.0 + x, row * CELL.1 + y)))
            })
        };
        let rows =
            (0..height / CELL.1).map(|row| (0..width / CELL.0).map(|column| cell(column, row)).collect());
        Self { rows: rows.collect() }
    }

    /// Whether a row shows this text: as a cipher would be read, cells are alike where characters are, and differ where they do.
    /// For texts of many different characters no other row looks so.
    #[must_use]
    pub fn shows(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        self.rows.iter().flat_map(|row| row.windows(text.len())).any(|cells| is_cipher(&text, cells))
    }
}

fn is_cipher(text: &[char], cells: &[Cell]) -> bool {
    let (mut shapes, mut letters) = (HashMap::new(), HashMap::new());
    text.iter().zip(cells).all(|(letter, cell)| {
        *shapes.entry(letter).or_insert(cell) == cell && *letters.entry(cell).or_insert(letter) == letter
    })
}

#[cfg(test)]
mod tests {
    use super::Screen;

    /// A screen of one row in a font that has the character's number as its shape.
    fn screen(text: &str) -> Screen {
        let width = text.len() * 8;
        let mut ppm = format!("P6\n{width} 16\n255\n").into_bytes();
        for _ in 0..16 {
            for letter in text.bytes() {
                for bit in (0..8).rev() {
                    ppm.extend([if letter >> bit & 1 == 1 { 170 } else { 0 }; 3]);
                }
            }
        }
        Screen::from_ppm(&ppm)
    }

    #[test]
    fn a_text_is_found_where_it_is() {
        let screen = screen("tatara: hint: choose a larger disk");
        assert!(screen.shows("choose a larger disk"));
        assert!(!screen.shows("choose a smaller disk"));
        assert!(!screen.shows("something longer than what the whole screen has room for"));
    }
}
