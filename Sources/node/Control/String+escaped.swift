extension String {
    /// The same with control characters and the like as `\u{1b}`: what other nodes say of themselves must not steer the
    /// terminal of whoever lists them.
    var escaped: String {
        self.unicodeScalars.reduce(into: "") { text, scalar in
            if scalar.isVisible {
                text.unicodeScalars.append(scalar)
            } else {
                text += "\\u{\(String(scalar.value, radix: 16))}"
            }
        }
    }

    /// Printed JSON with the same as JSON writes it. It may have line ends between its values; those within are written out
    /// already.
    var escapedJSON: String {
        self.unicodeScalars.reduce(into: "") { text, scalar in
            if scalar.isVisible || scalar == "\n" {
                text.unicodeScalars.append(scalar)
            } else {
                for unit in String(scalar).utf16 {
                    let digits = String(unit, radix: 16)
                    text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
                }
            }
        }
    }
}

extension Unicode.Scalar {
    fileprivate var isVisible: Bool {
        switch self.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .privateUse, .surrogate, .unassigned: false
        default: true
        }
    }
}
