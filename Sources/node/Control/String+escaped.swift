extension String {
    /// The same with control characters and the like as `\u{1b}`: what other nodes say of themselves must not steer the
    /// terminal of whoever lists them.
    var escaped: String {
        self.unicodeScalars.reduce(into: "") { text, scalar in
            switch scalar.properties.generalCategory {
            case .control, .format, .lineSeparator, .paragraphSeparator, .privateUse, .surrogate, .unassigned:
                text += "\\u{\(String(scalar.value, radix: 16))}"
            default: text.unicodeScalars.append(scalar)
            }
        }
    }
}
