import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.parser.IParser;
import ca.uhn.fhir.parser.StrictErrorHandler;
import ca.uhn.fhir.validation.FhirValidator;
import ca.uhn.fhir.validation.SchemaBaseValidator;
import ca.uhn.fhir.validation.ValidationResult;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Base64;

/**
 * HAPI FHIR's parsers as a filter: each line of standard input is a word and a resource in base64, each line of
 * standard output the same resource in the other format, or "error" and why.
 *
 * <p>"json" reads JSON and writes XML; "xml" reads XML and writes JSON; "schema" validates XML against the XSD of R4
 * and writes "ok".
 */
public final class HapiXml {
    public static void main(String[] arguments) throws Exception {
        FhirContext context = FhirContext.forR4();
        context.setParserErrorHandler(new StrictErrorHandler());
        IParser json = context.newJsonParser();
        IParser xml = context.newXmlParser();
        for (IParser parser : new IParser[] {json, xml}) {
            parser.setOverrideResourceIdWithBundleEntryFullUrl(false);
            parser.setStripVersionsFromReferences(false);
            parser.setDontStripVersionsFromReferencesAtPaths();
        }
        FhirValidator validator = context.newValidator();
        validator.registerValidatorModule(new SchemaBaseValidator(context));
        PrintStream out = new PrintStream(System.out, true, StandardCharsets.US_ASCII);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] words = line.split(" ");
            String text = new String(Base64.getDecoder().decode(words[1]), StandardCharsets.UTF_8);
            try {
                String answer = switch (words[0]) {
                    case "json" -> xml.encodeResourceToString(json.parseResource(text));
                    case "xml" -> json.encodeResourceToString(xml.parseResource(text));
                    default -> validated(validator.validateWithResult(text));
                };
                out.println("ok " + encoded(answer));
            } catch (RuntimeException error) {
                out.println("error " + encoded(String.valueOf(error.getMessage())));
            }
        }
    }

    private static String validated(ValidationResult result) {
        if (!result.isSuccessful()) {
            throw new IllegalArgumentException(result.getMessages().toString());
        }
        return "valid";
    }

    private static String encoded(String text) {
        return Base64.getEncoder().encodeToString(text.getBytes(StandardCharsets.UTF_8));
    }
}
