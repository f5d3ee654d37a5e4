//! Enums whose variants have a word each, from one list: the enum, all of its variants and their words cannot drift apart.

/// Makes an enum with `ALL`, its variants in the order of the list and of their discriminants, and `as_str`, the word of each.
#[macro_export]
macro_rules! labelled {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident {
            $($(#[$doc:meta])* $variant:ident = $word:literal,)+
        }
    ) => {
        $(#[$meta])*
        $vis enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl $name {
            /// Every one, in the order of the list.
            $vis const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];

            /// Its word.
            #[must_use]
            $vis const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    labelled! {
        /// Of what a gate is made.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Half {
            /// The one.
            Left = "left",
            /// The other.
            Right = "right",
        }
    }

    #[test]
    fn the_list_is_the_enum() {
        assert_eq!(Half::ALL, [Half::Left, Half::Right]);
        assert_eq!(Half::ALL.map(Half::as_str), ["left", "right"]);
        assert_eq!(Half::Right as usize, 1);
    }
}
