//! Enums whose variants have a word each, or a word, a status and a sentence, from one list: the
//! enum, all of its variants and what belongs to each cannot drift apart.

/// Makes an enum with `ALL`, its variants in the order of the list and of their discriminants, and
/// `as_str`, the word of each.
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

/// Makes an enum of reasons to refuse, with `ALL`, in the order of the list and of their
/// discriminants; `as_str`, the stable word of each; `status`, what it is answered with; and
/// `message`, the sentence for people. Whoever uses it has `http::StatusCode` in scope.
#[macro_export]
macro_rules! codes {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident {
            $($variant:ident $word:literal $status:ident $message:literal;)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        $vis enum $name {
            $(#[doc = concat!("`", $word, "`: ", $message)] $variant,)+
        }

        impl $name {
            /// Every code, in the order of their discriminants.
            $vis const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The stable word for programs.
            #[must_use]
            $vis fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// The status it is answered with.
            #[must_use]
            $vis fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)+ }
            }

            /// The sentence for people, where there is no better one.
            #[must_use]
            $vis fn message(self) -> &'static str {
                match self { $(Self::$variant => $message,)+ }
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
